# Two images from one file:
#   docker build --target serve -t tumorapp:serve .   the page and the API; no TensorFlow inside
#   docker build --target train -t tumorapp:train .   every flask command, with TensorFlow for GPUs
# `make verify-image` proves `serve` where there is no Docker: it takes its COPY and ENTRYPOINT lines.

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    HOME=/tmp
WORKDIR /app

FROM base AS train
COPY requirements-gpu.txt ./
RUN pip install --require-hashes -r requirements-gpu.txt
COPY brainscan brainscan
COPY training training
COPY tumorapp tumorapp
COPY templates templates
COPY static static
COPY wsgi.py LICENSE ./
# Any numeric user may run it (compose.yaml: yours), so that what it writes to the volumes is theirs.
RUN mkdir -p instance data && chmod 1777 instance data && chmod -R a+rX brainscan training tumorapp templates static
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/app/instance", "/app/data"]
USER 10001:10001
ENTRYPOINT ["flask"]
CMD ["--help"]

# Last, so that a plain `docker build .` makes the image that serves.
FROM base AS serve
COPY requirements-serve.txt ./
RUN pip install --require-hashes -r requirements-serve.txt
COPY brainscan brainscan
COPY tumorapp tumorapp
COPY templates templates
COPY static static
COPY instance/models instance/models
COPY instance/study instance/study
COPY wsgi.py gunicorn.conf.py LICENSE ./
# Compiled here, for the user below may not write; readable also after a checkout with a strict umask.
# Jobs, what is known of a PACS (`flask dicomweb`), and the models of an object store are all it
# writes; mount volumes there.
RUN python -m compileall -q . && chmod -R a+rX . && mkdir -p instance/jobs instance/pacs instance/cache && chmod 1777 instance/jobs instance/pacs instance/cache
ENV HOST=0.0.0.0 PORT=8000
EXPOSE 8000
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]

"""The Open Inference Protocol (KServe V2), for clients that exist already."""

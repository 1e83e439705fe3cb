// Small pictures of scans, so that a table of hundreds keeps none of them whole in memory.

const SIDE = 96; // pixels: 48 on a screen with twice as many

/**
 * Draw a picture (a File, or an image of the page) smaller.
 *
 * Gives a Blob, or null where the browser cannot decode it, as with TIFF.
 */
export async function shrinkPicture(picture) {
  let whole;
  try {
    if (picture.complete === false) await picture.decode(); // one that has just come
    whole = await createImageBitmap(picture);
  } catch (error) {
    if (error instanceof DOMException || error instanceof TypeError) return null;
    throw error;
  }
  const scale = Math.min(1, SIDE / Math.max(whole.width, whole.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(whole.width * scale));
  canvas.height = Math.max(1, Math.round(whole.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

/** Show a small picture in an `<img>`; without one it keeps its placeholder. */
export function showThumbnail(image, thumbnail) {
  if (!thumbnail) return;
  hideThumbnail(image);
  image.src = URL.createObjectURL(thumbnail);
}

/** Free the memory of the picture in an `<img>` that is thrown away. */
export function hideThumbnail(image) {
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
}

/**
 * Draw outlines over a small picture that is shown, in the `<svg>` beside its `<img>`.
 *
 * They are polygons of points, which are shares of the picture's width and height.
 */
export async function outlineThumbnail(frame, polygons) {
  const image = frame.querySelector("img");
  const drawing = frame.querySelector("svg");
  if (polygons.length === 0) return drawing.replaceChildren();
  try {
    await image.decode(); // its sides are not known before
  } catch (error) {
    if (error instanceof DOMException) return; // thrown away meanwhile
    throw error;
  }
  const { naturalWidth: width, naturalHeight: height } = image;
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.replaceChildren(
    ...polygons.map((points) => {
      const polygon = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
      const places = points.map(([x, y]) => `${x * width},${y * height}`);
      polygon.setAttribute("points", places.join(" "));
      return polygon;
    }),
  );
}

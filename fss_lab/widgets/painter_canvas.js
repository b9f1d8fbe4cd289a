// What fss_lab.MaskPainter draws on its canvas; comes before painter.js in one module. Points are in pixels of the photo.

const MARK = "#0072B2";

/**
 * Strokes on the layer of the mask alone. zoom: pixels of the layer for one of the photo. areas: pictures of what Python
 * has drawn: "base", the mask to begin with, and what wands mark, by their points.
 */
function drawMask(context, zoom, strokes, areas) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  clear(context);
  context.setTransform(zoom, 0, 0, zoom, 0, 0);
  context.lineCap = context.lineJoin = "round";
  context.fillStyle = context.strokeStyle = MARK;
  drawArea(context, zoom, areas.base);
  for (const stroke of strokes) {
    if (stroke.tool === "clear") clear(context);
    else if (stroke.tool === "wand") drawArea(context, zoom, areas[placesOf(stroke)], stroke.erase);
    else drawStroke(context, stroke);
  }
}

/** What Python calls the answer to a wand. */
function placesOf({ points }) {
  return points.map((point) => point.map((value) => Math.round(value * 10) / 10).join()).join(";");
}

/** Adds to `pictures` those of the PNGs that are not there yet, and draws again when each has come. */
function loadPictures(files, pictures, draw) {
  for (const [name, bytes] of Object.entries(files)) {
    if (name in pictures) continue;
    const address = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    pictures[name] = Object.assign(new Image(), { src: address });
    pictures[name].onload = () => {
      URL.revokeObjectURL(address);
      draw();
    };
  }
  return pictures;
}

function drawArea(context, zoom, picture, erase) {
  if (!picture || !picture.complete) return; // it will be drawn when it has come
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.drawImage(picture, 0, 0, context.canvas.width / zoom, context.canvas.height / zoom);
}

function clear(context) {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
}

function drawStroke(context, { tool, erase, size, points }) {
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.beginPath();
  trace(context, points);
  if (tool === "polygon") {
    context.fill("evenodd"); // as Pillow fills, where a polygon crosses itself
  } else {
    context.lineWidth = size;
    context.lineTo(...points[points.length - 1]); // a dot too has a length, of 0
    context.stroke();
  }
}

/** scale: pixels of the photo for one on the screen, here and below. */
function drawOpenPolygon(context, corners, path, scale) {
  drawTwice(context, scale, () => {
    drawLine(context, path);
    for (const corner of corners) drawCircle(context, corner, 4 * scale);
  });
}

/** The brush as a circle of `size` pixels; without a size a cross. */
function drawCursor(context, [x, y], size, scale) {
  const arm = 9 * scale;
  drawTwice(context, scale, () => {
    if (size) return drawCircle(context, [x, y], size / 2);
    drawLine(context, [[x - arm, y], [x + arm, y]]);
    drawLine(context, [[x, y - arm], [x, y + arm]]);
  });
}

/** White on a dark edge, to be seen on every photo. */
function drawTwice(context, scale, draw) {
  for (const [colour, thick] of [["#000", 3.5], ["#fff", 1.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick * scale;
    draw();
  }
}

function drawLine(context, points) {
  context.beginPath();
  trace(context, points);
  context.stroke();
}

function drawCircle(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.stroke();
}

function trace(context, points) {
  context.moveTo(...points[0]);
  for (const point of points.slice(1)) context.lineTo(...point);
}

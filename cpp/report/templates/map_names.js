"use strict";
// Texts on both maps: names of clusters as far as they fit, and the box beside the image that is pointed at.
(() => {
  const FEW = 40; // points of a cluster that its name would hide

  // Draw each name whose place is free, in their order. A name has its `text`, its place and the cluster's `n` points.
  const drawNames = (pen, names, width, height, style) => {
    pen.font = `600 13px ${style.fontFamily}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = cpp.dark() ? "#191f26" : "#fff";
    pen.fillStyle = style.color;
    const taken = [];
    for (const { text, left, top: middle, n } of names) {
      const top = n < FEW ? middle - 15 : middle;
      const half = pen.measureText(text).width / 2 + 4;
      const box = [left - half, top - 11, left + half, top + 11];
      if (box[0] < 0 || box[1] < 0 || box[2] > width || box[3] > height) continue;
      if (taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) continue;
      taken.push(box);
      pen.strokeText(text, left, top);
      pen.fillText(text, left, top);
    }
  };

  // Show the picture (WebP as text, or none), the title of the cluster and the key of an image.
  const fillHover = (hover, picture, title, key) => {
    const name = Object.assign(document.createElement("b"), { textContent: title });
    const source = `data:image/webp;base64,${picture}`;
    const shown = picture ? [Object.assign(new Image(), { src: source, alt: "" })] : [];
    hover.replaceChildren(...shown, name, document.createElement("br"), key);
  };
  const placeHover = (hover, x, y, width, height) => {
    const left = x + 16 + 168 > width ? x - 16 - 168 : x + 16;
    const top = Math.min(y + 12, height - hover.offsetHeight - 8);
    hover.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  };

  Object.assign(cpp, { drawNames, fillHover, placeHover });
})();

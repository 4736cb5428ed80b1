"use strict";

const MOST = 12; // answers that stay on the page
const SVG = "http://www.w3.org/2000/svg";
const HUES = 222.5; // degrees from class to class: the golden ratio of a turn
const VISIBLE = 0.5; // of a key point
const at = (id) => document.getElementById(id);
let classes = [];
const drop = at("drop"), file = at("file"), error = at("error"), answers = at("answers");

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return share < 1 && share > 0.999 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}

function bars(predictions) {
  const list = element("ol");
  for (const { class: name, probability } of predictions) {
    const row = element("li");
    const bar = element("div", "bar");
    const filled = element("i");
    filled.style.width = `${100 * probability}%`;
    bar.append(filled);
    row.append(element("span", "class", name), element("span", "share", percent(probability)), bar);
    list.append(row);
  }
  return list;
}

function colour(name) {
  return `hsl(${(HUES * Math.max(classes.indexOf(name), 0)) % 360} 75% 50%)`;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function outlines(objects, width, height) {
  const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}` });
  const line = Math.max(width, height) / 200;
  for (const { class: name, box: [x, y, right, bottom], keypoints } of [...objects].reverse()) {
    const look = { stroke: colour(name), "stroke-width": line };
    drawing.append(shape("rect", { x, y, width: right - x, height: bottom - y, fill: "none", ...look }));
    for (const [cx, cy, visible = 1] of keypoints ?? []) {
      if (visible >= VISIBLE) drawing.append(shape("circle", { cx, cy, r: line, ...look, fill: "white" }));
    }
  }
  return drawing;
}

function picture(image, objects) {
  const shown = element("img");
  shown.alt = image.name;
  shown.addEventListener("load", () => {
    shown.classList.toggle("small", Math.max(shown.naturalWidth, shown.naturalHeight) < 100);
    URL.revokeObjectURL(shown.src);
    if (objects) shown.after(outlines(objects, shown.naturalWidth, shown.naturalHeight));
  });
  shown.addEventListener("error", () => shown.remove());
  shown.src = URL.createObjectURL(image);
  return shown;
}

async function classify(image) {
  const form = new FormData();
  form.append("image", image);
  const answer = await fetch("predict", { method: "POST", body: form });
  const content = await answer.json().catch(() => ({ error: `${image.name}: status ${answer.status}` }));
  if (!answer.ok) throw new Error(content.error);
  const card = element("article"), words = element("div");
  const { predictions, objects } = content[0], frame = element("figure");
  const rows = predictions ?? objects.map(({ class: name, score }) => ({ class: name, probability: score }));
  words.append(element("h2", "", image.name), rows.length ? bars(rows) : element("p", "", "Nothing found."));
  frame.append(picture(image, objects));
  card.append(frame, words);
  answers.prepend(card);
  while (answers.children.length > MOST) answers.lastChild.remove();
}

async function classifyAll(images) {
  const messages = [];
  error.hidden = true;
  drop.ariaBusy = "true";
  for (const image of images) {
    try {
      await classify(image);
    } catch (problem) {
      messages.push(problem instanceof TypeError ? "The server does not answer." : problem.message);
    }
  }
  drop.ariaBusy = "false";
  error.textContent = messages.join("; ");
  error.hidden = messages.length === 0;
}

function dropped(event, over) {
  event.preventDefault();
  drop.classList.toggle("over", over);
}

document.addEventListener("dragover", (event) => dropped(event, true));
document.addEventListener("dragleave", (event) => dropped(event, event.relatedTarget !== null));
document.addEventListener("drop", (event) => {
  dropped(event, false);
  classifyAll([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => classifyAll([...event.clipboardData.files]));
drop.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") file.click();
});
file.addEventListener("change", () => {
  classifyAll([...file.files]);
  file.value = "";
});

at("address").textContent = new URL("predict", location.href);
fetch("model").then((answer) => answer.json()).then((model) => {
  const [, height, width] = model.shape;
  classes = model.classes;
  at("name").textContent = document.title = model.name;
  at("about").textContent = `${model.classes.length} classes; a picture is brought to ${width} × ${height} pixels.`;
});

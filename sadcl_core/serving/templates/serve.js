"use strict";
const SHOWN = 12; // classes of an image, the most probable ones
const field = document.getElementById("files");
const drop = document.getElementById("drop");
const message = document.getElementById("message");
const results = document.getElementById("results");
const thresholds = new Map(); // class -> above which it is a label, on this page
for (const pre of document.querySelectorAll("pre")) pre.textContent = pre.textContent.replace("ADDRESS", location.origin);

// characters of a name that steer how it is read, by their numbers
const visible = (text) => text.replace(
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
  (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
);

function element(name, parent, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = visible(text);
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}

let demo = false;

function overlay(canvas, map) {
  canvas.hidden = !map;
  if (!map) return;
  [canvas.width, canvas.height] = [map[0].length, map.length];
  const pixels = new ImageData(canvas.width, canvas.height);
  map.flat().forEach((value, number) => pixels.data.set([255, 40, 0, 200 * value], 4 * number));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

async function explain(file, article) {
  const body = new FormData();
  body.append("image", file);
  const details = await (await fetch("/details", { method: "POST", body })).json();
  const canvas = article.querySelector("canvas");
  const rows = [...article.querySelectorAll("tr[data-name]")];
  for (const row of rows) {
    row.tabIndex = 0;
    row.onmouseenter = row.onfocus = () => {
      overlay(canvas, details.attention[row.dataset.name]);
      for (const other of rows) other.classList.toggle("seen", other === row);
    };
  }
  if (rows.length) rows[0].onfocus();
  if (details.note) element("p", article, details.note, "alike");
  if (!details.alike.length) return;
  const alike = element("div", article, "", "alike");
  element("p", alike, "Alike:");
  for (const match of details.alike) {
    const figure = element("figure", alike);
    const picture = element("img", figure);
    picture.alt = visible(match.image);
    picture.src = `/alike?path=${encodeURIComponent(match.path)}`;
    element("figcaption", figure, `${match.cosine.toFixed(2)} ${match.labels.join(", ")}`);
  }
}

async function keep() {
  const answer = await fetch("/thresholds", {
    method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(Object.fromEntries(thresholds)),
  });
  const kept = "The thresholds are in the model file: sadcl predict uses them.";
  message.textContent = answer.ok ? kept : visible(String((await answer.json()).detail));
}

function mark() {
  for (const row of results.querySelectorAll("tr[data-name]")) {
    const threshold = thresholds.get(row.dataset.name);
    row.classList.toggle("label", Number(row.dataset.score) > threshold);
    row.querySelector("input").value = threshold;
    row.querySelector("output").textContent = threshold.toFixed(2);
  }
}

function show(file, prediction) {
  const article = document.createElement("article");
  element("h2", article, file.name);
  const frame = element("div", article, "", "frame");
  const picture = element("img", frame);
  element("canvas", frame).hidden = true;
  picture.alt = "";
  picture.src = URL.createObjectURL(file);
  picture.onerror = () => URL.revokeObjectURL(picture.src);
  picture.onload = () => {
    picture.onerror();
    picture.style[picture.naturalWidth < picture.naturalHeight ? "height" : "width"] = "18rem"; // small ones, too
  };
  if (prediction.error) {
    element("p", article, prediction.error, "error");
  } else {
    const table = element("table", article);
    const head = element("tr", table);
    for (const title of ["class", "score", "", "threshold", ""]) element("th", head, title);
    const ranked = Object.entries(prediction.scores).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
    for (const [name, score] of ranked) {
      const row = element("tr", table);
      row.dataset.name = name;
      row.dataset.score = score;
      element("td", row, name);
      element("td", row, score.toFixed(3), "score");
      element("meter", element("td", row)).value = score;
      const slider = element("input", element("td", row));
      Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01, ariaLabel: `threshold of ${name}` });
      slider.oninput = () => { thresholds.set(name, Number(slider.value)); mark(); };
      element("output", element("td", row));
    }
  }
  results.prepend(article);
  return article;
}

async function ask(files) {
  message.textContent = "…";
  try {
    if (!thresholds.size) {
      const model = await (await fetch("/model")).json();
      for (const [name, value] of Object.entries(model.thresholds)) thresholds.set(name, value);
      demo = model.demo;
      if (demo) {
        const button = element("button", drop.parentNode, "Keep the thresholds in the model");
        button.onclick = keep;
        message.before(button);
      }
    }
    for (const file of files) {
      const body = new FormData();
      body.append("images", file);
      const document = await (await fetch("/predict?all_scores=true", { method: "POST", body })).json();
      const article = show(file, document.predictions ? document.predictions[0] : { error: String(document.detail) });
      mark();
      if (demo && article.querySelector("table")) await explain(file, article);
    }
    message.textContent = "";
  } catch (error) {
    message.textContent = `The server does not answer (${error.message}).`;
  }
}

field.onchange = () => ask(field.files);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") ask([...event.dataTransfer.files].filter((file) => file.size));
  });
}

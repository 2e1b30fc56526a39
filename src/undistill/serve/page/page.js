"use strict";
const at = (id) => document.getElementById(id);
const pictures = []; // {file, name, before, state, said, result: {url, blob, name}}
let shown = null, about = { heads: [] }, key = "", share = 50, zoom = 0, looked = 0, running = 0, stopped = false, stops = new AbortController();
const AT_ONCE = 2;

// -- asking the service -----------------------------------------------------------------------------------------------

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}), ...(key ? { Authorization: "Bearer " + key } : {}) };
  let reply;
  try {
    reply = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server can't be reached. Is it still running?");
  }
  if (reply.ok) return reply;
  const problem = await reply.json().catch(() => ({ detail: "The server answered " + reply.status + "." }));
  if (reply.status === 401) { at("unlock").hidden = false; at("key").focus(); }
  throw Object.assign(new Error(problem.detail), { status: reply.status, after: Number(reply.headers.get("Retry-After")) });
}

const pause = (seconds, signal) => new Promise((done, failed) => {
  const timer = setTimeout(done, seconds * 1000);
  signal.addEventListener("abort", () => { clearTimeout(timer); failed(new DOMException("", "AbortError")); });
});

async function enhanced(picture, signal) {
  const form = new FormData();
  form.append("image", picture.file, "image");
  form.append("head", at("head").value);
  form.append("strength", at("strength").value);
  if (at("face").checked) form.append("where", "face");
  for (;;) {
    try {
      return await ask("v1/enhance", { method: "POST", body: form, signal });
    } catch (error) {
      if (![429, 503].includes(error.status)) throw error;
      tell(picture, "waiting", "The server is busy; again in " + (error.after || 1) + " s");
      await pause(error.after || 1, signal);
    }
  }
}

// -- pictures: each is waiting, working, done, failed or stopped ------------------------------------------------------

function tell(picture, state, said) {
  picture.state = state;
  picture.said = said;
  drawList();
  if (picture === shown) drawShown();
}

function next() {
  while (!stopped && running < AT_ONCE) {
    const picture = shown && shown.state === "waiting" ? shown : pictures.find((each) => each.state === "waiting");
    if (!picture) break;
    run(picture);
  }
  drawList();
}

async function run(picture) {
  running += 1;
  const stop = new AbortController();
  picture.stop = stop;
  const all = stops.signal;
  const give = () => stop.abort();
  all.addEventListener("abort", give);
  tell(picture, "working", "Working");
  try {
    const reply = await enhanced(picture, stop.signal);
    const blob = await reply.blob();
    if (picture.result) URL.revokeObjectURL(picture.result.url);
    const ending = { "image/jpeg": "jpg", "image/tiff": "tif" }[blob.type] || blob.type.split("/")[1];
    const name = picture.name.replace(/(\.\w+)?$/, "") + "-enhanced." + ending;
    const notes = JSON.parse(reply.headers.get("Undistill-Notes") || "[]");
    picture.result = { blob, name, url: URL.createObjectURL(blob) };
    const what = reply.headers.get("Undistill-Head") + " at " + Number(reply.headers.get("Undistill-Strength")).toFixed(2);
    tell(picture, "done", [what, reply.headers.get("Undistill-Milliseconds") + " ms", ...notes].join("; "));
  } catch (error) {
    if (picture.stop === stop && error.name === "AbortError") tell(picture, "stopped", "Stopped");
    else if (picture.stop === stop) tell(picture, "failed", error.message);
  } finally {
    all.removeEventListener("abort", give);
    running -= 1;
    next();
  }
}

function again() { // with other settings: all of them, that which is shown first
  stopped = false;
  for (const picture of pictures) {
    if (picture.stop) { const old = picture.stop; picture.stop = null; old.abort(); }
    picture.state = "waiting";
    picture.said = "Waiting";
  }
  next();
}

function add(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || /\.(avif|tiff?)$/i.test(file.name));
  if (!images.length) { say("There is no picture among these.", true); at("work").hidden = !pictures.length; return; }
  stopped = false;
  for (const file of images) {
    pictures.push({ file, name: file.name || "pasted.png", before: URL.createObjectURL(file), state: "waiting", said: "Waiting" });
  }
  at("start").classList.add("small");
  at("work").hidden = false;
  show(pictures[pictures.length - images.length]);
  at("work").scrollIntoView({ block: "nearest" });
  next();
}

function clear() {
  stops.abort();
  stops = new AbortController();
  for (const { before, result } of pictures) { URL.revokeObjectURL(before); if (result) URL.revokeObjectURL(result.url); }
  pictures.length = 0;
  shown = null;
  at("work").hidden = true;
  at("start").classList.remove("small");
  at("files").focus();
}

// -- drawing ----------------------------------------------------------------------------------------------------------

function say(text, bad = false) {
  at("message").textContent = text;
  at("message").classList.toggle("bad", bad);
}

function show(picture) {
  shown = picture;
  looked = 0;
  at("before").src = picture.before;
  drawList();
  drawShown();
}

const isAtFace = () => at("zoom-face").getAttribute("aria-pressed") === "true";

function drawShown() {
  const { name, result, state, said } = shown;
  at("frame").classList.toggle("working", state === "working" || state === "waiting");
  at("after").hidden = !result;
  if (result && at("after").src !== result.url) at("after").src = result.url;
  for (const id of ["handle", "corner-before", "corner-after"]) at(id).hidden = !result;
  at("download").hidden = !result || state !== "done";
  if (result) { at("download").href = result.url; at("download").download = result.name; }
  at("about-shown").textContent = name;
  say(said, state === "failed");
  place();
}

function drawList() {
  const list = at("list"), done = pictures.filter((each) => each.state === "done").length;
  const busy = pictures.some((each) => each.state === "waiting" || each.state === "working") && !stopped;
  while (list.children.length > pictures.length) list.lastChild.remove();
  pictures.forEach((picture, place) => {
    let item = list.children[place];
    if (!item) {
      item = document.createElement("li");
      item.innerHTML = '<button type="button"><span class="picture"><img alt=""></span><span class="said"></span></button>';
      item.firstChild.addEventListener("click", () => show(pictures[place]));
      list.append(item);
    }
    const image = item.querySelector("img"), source = picture.result ? picture.result.url : picture.before;
    if (picture.state === "failed" && !picture.result) image.removeAttribute("src");
    else if (image.src !== source) image.src = source;
    item.querySelector(".said").textContent = picture.name + ": " + picture.state;
    item.querySelector(".said").classList.toggle("bad", picture.state === "failed");
    item.firstChild.setAttribute("aria-current", String(picture === shown));
  });
  list.hidden = pictures.length < 2;
  at("progress").hidden = !busy || pictures.length < 2;
  at("progress").value = pictures.length ? done / pictures.length : 0;
  at("stop").hidden = !busy;
  at("zip").hidden = done < 2 || busy;
}

// -- before and after: a slider for pointer, touch and keys -----------------------------------------------------------

function place() {
  const frame = at("frame"), scroller = at("scroller"), stack = at("stack"), before = at("before");
  frame.classList.toggle("fit", zoom === 0);
  const ratio = window.devicePixelRatio || 1; // 100%: a pixel of the picture on one of the screen
  stack.style.width = zoom ? (before.naturalWidth * zoom) / ratio + "px" : "100%";
  stack.style.height = zoom ? (before.naturalHeight * zoom) / ratio + "px" : "100%";
  const x = scroller.scrollLeft + (share / 100) * scroller.clientWidth - stack.offsetLeft;
  at("after").style.clipPath = "inset(0 0 0 " + x + "px)";
  at("handle").style.left = share + "%";
  at("handle").setAttribute("aria-valuenow", String(Math.round(share)));
  at("handle").setAttribute("aria-valuetext", Math.round(share) + "% before, " + Math.round(100 - share) + "% after");
}

function slide(to) {
  share = Math.min(100, Math.max(0, to));
  place();
}

function drag(event) {
  const box = at("frame").getBoundingClientRect();
  slide((100 * (event.clientX - box.left)) / box.width);
}

at("frame").addEventListener("pointerdown", (event) => {
  if (at("handle").hidden || (zoom && event.target !== at("handle"))) return;
  at("frame").setPointerCapture(event.pointerId);
  at("frame").addEventListener("pointermove", drag);
  drag(event);
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  at("frame").addEventListener(end, () => at("frame").removeEventListener("pointermove", drag));
}
at("handle").addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
  if (event.key in steps) { event.preventDefault(); slide(share + steps[event.key]); }
});
at("scroller").addEventListener("scroll", place);
window.addEventListener("resize", () => { if (shown) isAtFace() ? lookAtFace() : place(); });
at("before").addEventListener("load", () => { if (shown) isAtFace() ? lookAtFace() : place(); });
at("before").addEventListener("error", () => shown && say("This browser can't show a picture of this kind; the enhanced one can be downloaded."));
function zoomTo(size, x, y) { // so that this place of the picture, in parts of it, is in the middle
  zoom = size;
  at("scroller").tabIndex = zoom ? 0 : -1;
  place();
  const { scrollWidth, clientWidth, scrollHeight, clientHeight } = at("scroller");
  at("scroller").scrollTo(x * scrollWidth - clientWidth / 2, y * scrollHeight - clientHeight / 2);
  place();
}

async function lookAtFace() { // of several, each time the next
  const picture = shown, { naturalWidth, naturalHeight } = at("before");
  try {
    if (!picture.faces) {
      const form = new FormData();
      form.append("image", picture.file, "image");
      picture.faces = (await (await ask("v1/faces", { method: "POST", body: form })).json()).faces;
    }
  } catch (error) {
    if (picture === shown) say(error.message, true);
    return;
  }
  if (picture !== shown || !isAtFace() || !naturalWidth) return;
  if (!picture.faces.length) { zoomTo(0, 0, 0); say("No face was found in it."); return; }
  const [left, top, right, bottom] = picture.faces[looked % picture.faces.length], frame = at("scroller");
  for (let pass = 0; pass < 2; pass += 1) { // the first may bring scrollbars, which take room
    const fitting = Math.min(frame.clientWidth / (right - left), frame.clientHeight / (bottom - top));
    zoomTo(fitting * (window.devicePixelRatio || 1), (left + right) / 2 / naturalWidth, (top + bottom) / 2 / naturalHeight);
  }
}

for (const button of document.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => {
    looked = button.dataset.zoom === "face" && isAtFace() ? looked + 1 : 0;
    for (const each of document.querySelectorAll("[data-zoom]")) each.setAttribute("aria-pressed", String(each === button));
    if (isAtFace()) lookAtFace();
    else zoomTo(Number(button.dataset.zoom), 0.5, 0.35); // where a portrait's face is
  });
}

// -- a zip: the files as they are, one after another, and a list of them ---------------------------------------------

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

async function zipped(files) {
  const parts = [], listed = [], names = new Set();
  let offset = 0;
  for (const { name, blob } of files) {
    let unique = name;
    for (let number = 2; names.has(unique); number += 1) unique = name.replace(/(\.\w+)$/, "-" + number + "$1");
    names.add(unique);
    const data = new Uint8Array(await blob.arrayBuffer()), called = new TextEncoder().encode(unique);
    // Version, UTF-8 names, stored, 1980-01-01, sum, sizes, lengths of name and rest.
    const head = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], [4, crc32(data)], [4, data.length], [4, data.length], [2, called.length], [2, 0]];
    parts.push(packed([[4, 0x04034b50], ...head]), called, data);
    listed.push(packed([[4, 0x02014b50], [2, 20], ...head, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), called);
    offset += 30 + called.length + data.length;
  }
  const size = listed.reduce((sum, part) => sum + part.length, 0);
  const end = packed([[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]]);
  return new Blob([...parts, ...listed, end], { type: "application/zip" });
}

function packed(numbers) {
  const bytes = [];
  for (const [length, value] of numbers) for (let byte = 0; byte < length; byte += 1) bytes.push((value >>> (8 * byte)) & 255);
  return new Uint8Array(bytes);
}

async function downloadAll() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await zipped(pictures.filter((each) => each.state === "done").map((each) => each.result)));
  link.download = "undistill.zip";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // at once, it may come before the download begins
}

// -- what this server has ---------------------------------------------------------------------------------------------

const plain = (text) => text.replace(/\*\*|`/g, "").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");

function drawCard() {
  const head = about.heads.find((each) => each.name === at("head").value);
  if (!head) return;
  at("card-name").textContent = head.name;
  at("card-summary").textContent = plain(head.summary || "A head of this server's own, which brings no card.").replace(/\n/g, " ");
  at("card-measured").replaceChildren(...plain(head.measured || "").split("\n\n").map((block) => (block.startsWith("|") ? table(block) : paragraph(block))));
}

function paragraph(text) {
  const made = document.createElement("p");
  made.textContent = text.replace(/\n/g, " ");
  return made;
}

function table(block) {
  const made = document.createElement("table");
  for (const line of block.split("\n").filter((each) => !/^[|\s-]+$/.test(each))) {
    const row = made.insertRow();
    for (const text of line.split("|").slice(1, -1)) row.insertCell().textContent = text.trim();
  }
  return made;
}

async function begin() {
  try {
    about = await (await ask("v1/heads")).json();
  } catch (error) {
    if (error.status !== 401) { at("work").hidden = false; say(error.message, true); }
    return;
  }
  at("unlock").hidden = true;
  at("head").replaceChildren(...about.heads.map(({ name }) => new Option(name, name)));
  at("limits").textContent = "PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF; up to " + about.limits.bytes / 1e6 + " MB and " + about.limits.pixels / 1e6 + " megapixels";
  at("face-only").hidden = at("zoom-face").hidden = !about.faces;
  at("tabs").hidden = !about.pair;
  drawCard();
  const names = await (await ask("samples")).json();
  at("samples").replaceChildren(...names.map((name, place) => {
    const button = document.createElement("button"), image = new Image();
    image.src = "samples/" + name;
    image.alt = "Sample " + (place + 1);
    image.loading = "lazy";
    button.type = "button";
    button.append(image);
    button.addEventListener("click", async () => {
      const blob = await (await ask("samples/" + name)).blob();
      add([new File([blob], name, { type: blob.type })]);
    });
    return button;
  }));
}

function turnTo(tab) {
  for (const name of ["enhance", "generate"]) {
    at(name).hidden = name !== tab;
    at("tab-" + name).setAttribute("aria-selected", String(name === tab));
    at("tab-" + name).tabIndex = name === tab ? 0 : -1;
  }
  at("tab-" + tab).focus();
}

async function draw(event) {
  event.preventDefault();
  at("draw-button").disabled = true;
  at("draw-message").textContent = "Drawing";
  at("draw-message").classList.remove("bad");
  try {
    const body = JSON.stringify({ prompt: at("prompt").value, seed: Number(at("seed").value) });
    const drawn = await (await ask("v1/compare", { method: "POST", body, headers: { "Content-Type": "application/json" } })).json();
    at("drawn").replaceChildren(...["student", "enhanced", "teacher"].filter((name) => drawn[name]).map((name) => {
      const figure = document.createElement("figure"), image = new Image(), words = document.createElement("figcaption");
      image.src = "data:image/png;base64," + drawn[name].png;
      image.alt = "The " + name + "'s picture of the prompt";
      words.textContent = name + ": " + drawn[name].seconds.toFixed(2) + " s";
      figure.append(image, words);
      return figure;
    }));
    at("draw-message").textContent = "";
  } catch (error) {
    at("draw-message").textContent = error.message;
    at("draw-message").classList.add("bad");
  }
  at("draw-button").disabled = false;
}

// -- hands ------------------------------------------------------------------------------------------------------------

let settled;
const changed = () => { clearTimeout(settled); settled = setTimeout(again, 200); };
at("files").addEventListener("change", () => { add(at("files").files); at("files").value = ""; });
at("strength").addEventListener("input", () => { at("strength-said").value = Number(at("strength").value).toFixed(2); changed(); });
at("head").addEventListener("change", () => { drawCard(); changed(); });
at("face").addEventListener("change", changed);
at("stop").addEventListener("click", () => {
  stopped = true;
  stops.abort();
  stops = new AbortController();
  for (const each of pictures) if (each.state === "waiting") tell(each, "stopped", "Stopped");
});
at("zip").addEventListener("click", downloadAll);
at("clear").addEventListener("click", clear);
at("draw").addEventListener("submit", draw);
at("unlock").addEventListener("submit", (event) => { event.preventDefault(); key = at("key").value; at("unlock").hidden = true; begin(); });
for (const tab of ["enhance", "generate"]) at("tab-" + tab).addEventListener("click", () => turnTo(tab));
at("tabs").addEventListener("keydown", (event) => {
  if (["ArrowLeft", "ArrowRight"].includes(event.key)) turnTo(at("enhance").hidden ? "enhance" : "generate");
});
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) add(event.clipboardData.files); });
document.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); at("drop").classList.remove("over"); add(event.dataTransfer.files); });
begin();

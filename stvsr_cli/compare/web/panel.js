const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const color = (letter) => css("--" + letter.toLowerCase());
const clockText = (t) => `${Math.floor(t / 60)}:${(t % 60).toFixed(3).padStart(6, "0")}`;
const plot = $("plot"), canvas = plot.querySelector("canvas"), pad = { left: 54, right: 14, top: 12, bottom: 24 };
let chosen = "", hover = null;

function element(tag, text = "", cls = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (cls) made.className = cls;
  return made;
}

function choices(id, entries, pick) {
  for (const [value, text, title] of entries) {
    const button = element("button", text);
    button.title = title || "";
    button.dataset.value = value;
    button.addEventListener("click", () => pick(value));
    $(id).append(button);
  }
}

function press(id, value) {
  for (const button of $(id).children) button.setAttribute("aria-pressed", button.dataset.value === String(value));
}

function setMode(mode) { state.mode = mode; state.zoom = 0; layout(); }
function setSpeed(speed) { state.speed = speed; for (const key in players) players[key].playbackRate = speed; refresh(); }
function pickSide(side, letter) { pause(); state[side] = letter; layout(); names(); seek(state.time); }

function names() {
  for (const [side, dot] of [["left", ".tag.left .dot"], ["right", ".tag.right .dot"]]) {
    $("tag-" + side).textContent = $("name-" + side).textContent = data.videos[state[side]].name;
    $("name-" + side).style.color = css(`--${state[side].toLowerCase()}-text`);
    document.querySelector(dot).className = "dot " + state[side].toLowerCase();
    if ($("pick-" + side)) press("pick-" + side, state[side]);
  }
}

/** What depends on the moment, or on a choice. */
function refresh() {
  const frames = active().map(([, letter]) => `${letter} ${frameAt(data.videos[letter].times, state.time) + 1}/${data.videos[letter].times.length}`);
  $("clock").innerHTML = "";
  $("clock").append(element("b", clockText(state.time)), "\u2002" + frames.join("\u2002"));
  $("play-shape").setAttribute("d", state.playing ? "M7 4h3v16H7zM14 4h3v16h-3z" : "M7 4l13 8-13 8z");
  $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  plot.setAttribute("aria-valuenow", state.time.toFixed(3));
  press("speeds", state.speed); press("modes", state.mode); press("zooms", state.zoom);
  draw();
}

const series = () => data.series.filter((s) => s.measure === chosen);
const xOf = (t, wide) => pad.left + (t / length) * (wide - pad.left - pad.right);
const timeAt = (x) => clamp((x - pad.left) / (plot.clientWidth - pad.left - pad.right), 0, 1) * length;

function draw() {
  const wide = plot.clientWidth, high = plot.clientHeight, pen = canvas.getContext("2d"), dots = devicePixelRatio;
  if (canvas.width !== wide * dots || canvas.height !== high * dots) { canvas.width = wide * dots; canvas.height = high * dots; }
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.clearRect(0, 0, wide, high);
  const lines = series(), all = lines.flatMap((s) => s.values);
  let low = Math.min(...all), top = Math.max(...all);
  const spare = (top - low || Math.abs(top) || 1) * 0.12;
  low -= spare; top += spare;
  const yOf = (v) => high - pad.bottom - ((v - low) / (top - low)) * (high - pad.top - pad.bottom);
  pen.font = "11.5px " + getComputedStyle(document.body).fontFamily;
  pen.strokeStyle = css("--line"); pen.fillStyle = css("--faint"); pen.lineWidth = 1;
  pen.textAlign = "right"; pen.textBaseline = "middle";
  for (let i = 0; all.length && i <= 3; i++) {
    const v = low + ((top - low) * (i + 0.5)) / 4, y = Math.round(yOf(v)) + 0.5;
    pen.beginPath(); pen.moveTo(pad.left, y); pen.lineTo(wide - pad.right, y); pen.stroke();
    pen.fillText(v.toPrecision(4), pad.left - 8, y);
  }
  pen.textAlign = "center"; pen.textBaseline = "alphabetic";
  const raw = length / Math.max(3, Math.floor(wide / 120)), unit = 10 ** Math.floor(Math.log10(raw)), tick = [1, 2, 5, 10].find((m) => m * unit >= raw) * unit;
  for (let t = 0; t <= length + 1e-9; t += tick) pen.fillText(`${+t.toFixed(3)} s`, clamp(xOf(t, wide), pad.left + 8, wide - 24), high - 6);
  for (const line of lines) {
    pen.strokeStyle = pen.fillStyle = color(line.video); pen.lineWidth = 2; pen.lineJoin = "round"; pen.beginPath();
    line.times.forEach((t, i) => pen[i ? "lineTo" : "moveTo"](xOf(t, wide), yOf(line.values[i])));
    pen.stroke();
    if (line.times.length < wide / 12) for (let i = 0; i < line.times.length; i++) { pen.beginPath(); pen.arc(xOf(line.times[i], wide), yOf(line.values[i]), 2.6, 0, 7); pen.fill(); }
  }
  for (const [t, strong] of [[hover, false], [state.time, true]]) {
    if (t === null) continue;
    const x = Math.round(xOf(t, wide)) + 0.5;
    pen.strokeStyle = css(strong ? "--text" : "--faint"); pen.lineWidth = strong ? 1.6 : 1;
    pen.beginPath(); pen.moveTo(x, pad.top - 6); pen.lineTo(x, high - pad.bottom); pen.stroke();
    if (strong) { pen.fillStyle = css("--text"); pen.beginPath(); pen.moveTo(x - 6, pad.top - 9); pen.lineTo(x + 6, pad.top - 9); pen.lineTo(x, pad.top); pen.fill(); }
  }
}

function showTip(x) {
  hover = timeAt(x);
  const digits = data.measures[chosen]?.digits ?? 2;
  const parts = series().map((s) => `${s.video} ${s.values[frameAt(s.times, hover)]?.toFixed(digits)}`);
  $("tip").textContent = [clockText(hover), ...parts].join("   ");
  $("tip").hidden = false;
  $("tip").style.left = clamp(x + 12, 0, plot.clientWidth - $("tip").offsetWidth) + "px";
  draw();
}

function timeline() {
  let held = false;
  const spot = (event) => event.clientX - plot.getBoundingClientRect().left;
  const go = (x) => seek(finest[frameAt(finest, timeAt(x))]);
  plot.addEventListener("pointerdown", (event) => { pause(); held = true; plot.setPointerCapture(event.pointerId); go(spot(event)); });
  plot.addEventListener("pointermove", (event) => { showTip(spot(event)); if (held) go(spot(event)); });
  for (const kind of ["pointerup", "pointercancel"]) plot.addEventListener(kind, () => { held = false; });
  plot.addEventListener("pointerleave", () => { hover = null; $("tip").hidden = true; draw(); });
}

function choose(name) {
  chosen = name;
  for (const chip of $("chips").children) chip.setAttribute("aria-selected", chip.dataset.value === name);
  const m = data.measures[name];
  $("meaning").textContent = m ? m.meaning.charAt(0).toUpperCase() + m.meaning.slice(1) + ". Click, or drag, to go to a moment." : "Click, or drag, to go to a moment.";
  draw();
}

function headed(title, videos, extra) {
  const row = element("tr");
  row.append(element("th", title));
  for (const letter of videos) { const cell = element("th"); cell.append(element("i", "", "dot " + letter.toLowerCase()), letter); row.append(cell); }
  if (extra) row.append(element("th", extra, "text"));
  return row;
}

function tables() {
  const measured = letters.filter((l) => data.values[l]);
  $("measures").append(headed("", measured, " "));
  for (const [name, m] of Object.entries(data.measures)) {
    const row = element("tr"), found = measured.map((l) => data.values[l][name]), given = found.filter((v) => v !== undefined);
    if (!given.length) continue;
    const rank = (v) => (m.better === "higher" ? -v : m.better === "lower" ? v : Math.abs(v - 1));
    const best = given.length > 1 && (m.better !== "one" || data.videos.R) ? Math.min(...given.map(rank)) : null;
    row.append(element("td", m.title));
    for (const value of found) row.append(element("td", value === undefined ? "" : value.toFixed(m.digits), value !== undefined && best !== null && rank(value) === best ? "best" : ""));
    row.append(element("td", m.meaning + (m.better === "one" ? "" : `; ${m.better} is better`), "text"));
    $("measures").append(row);
  }
  $("measures").closest("section").hidden = $("measures").rows.length < 2;
  $("files").append(headed("", letters, ""));
  const facts = { File: "name", Size: "size", "Frames a second": "fps", Frames: "frames", Duration: "duration", Bytes: "bytes", "Bit rate": "bit_rate", Codec: "codec", "In this page": "inside" };
  for (const [title, key] of Object.entries(facts)) {
    const row = element("tr");
    row.append(element("td", title));
    for (const letter of letters) { const cell = element("td", String(data.videos[letter][key])); if (["name", "codec", "inside"].includes(key)) cell.className = "fold"; row.append(cell); }
    $("files").append(row);
  }
  for (const note of data.notes) $("notes").append(element("li", note));
}

const KEYS = [
  ["Space", "play or pause"], ["← →", "a frame back or on; with Shift, ten"], ["Home End", "first and last frame"], ["[ ]", "move the divider"],
  ["0", "whole picture"], ["1 … 8", "100 to 800 %"], ["+ −", "zoom"], ["W A S D", "pan"], ["V", "slider, side by side, difference"], ["X", "swap sides"],
  ["P", "hard pixels"], ["M", "next measure"], ["F", "full screen"], ["T", "dark or light"], ["?", "this list"],
];

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const pan = (x, y) => { state.x += x; state.y += y; layout(); }, next = (list, now) => list[(list.indexOf(now) + 1) % list.length];
  const names_ = [...$("chips").children].map((c) => c.dataset.value), near = scale() * devicePixelRatio;
  const actions = {
    " ": () => (state.playing ? pause() : play()), ArrowLeft: () => step(event.shiftKey ? -10 : -1), ArrowRight: () => step(event.shiftKey ? 10 : 1),
    Home: () => { pause(); seek(0); }, End: () => { pause(); seek(length); },
    "[": () => { state.split = clamp(state.split - 0.05, 0, 1); layout(); }, "]": () => { state.split = clamp(state.split + 0.05, 0, 1); layout(); },
    "0": () => setZoom(0), "+": () => setZoom(near * 1.25), "=": () => setZoom(near * 1.25), "-": () => setZoom(near / 1.25),
    w: () => pan(0, 80), a: () => pan(80, 0), s: () => pan(0, -80), d: () => pan(-80, 0), v: () => setMode(next(["slider", "side", "difference"], state.mode)),
    x: () => { pause(); [state.left, state.right] = [state.right, state.left]; layout(); names(); seek(state.time); }, p: () => { state.pixels = !state.pixels; layout(); },
    m: () => choose(next(names_, chosen)), t: theme, "?": () => $("help").showModal(),
    f: () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen?.()),
  };
  const action = /^[1-8]$/.test(event.key) ? () => setZoom(Number(event.key)) : actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action) { event.preventDefault(); action(); }
}

function theme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  names(); draw();
}

function start() {
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  document.documentElement.style.setProperty("--shape", largest.width / largest.height);
  load(); gestures(); timeline(); tables();
  choices("speeds", [0.1, 0.25, 0.5, 1].map((s) => [s, `${s}×`, "Speed"]), setSpeed);
  choices("modes", [["slider", "Slider", "V"], ["side", "Side by side", "V"], ["difference", "Difference", "V; four times as bright"]], setMode);
  choices("zooms", [[0, "Fit", "0"], ...[1, 2, 4, 8].map((z) => [z, `${100 * z} %`, String(z)])], (z) => setZoom(Number(z)));
  const drawn = new Set(data.series.map((s) => s.measure));
  choices("chips", Object.keys(data.measures).filter((name) => drawn.has(name)).map((name) => [name, data.measures[name].title]), choose);
  if (letters.length > 2) {
    $("pickers").hidden = false;
    for (const side of ["left", "right"]) {
      const group = element("div", "", "group");
      group.id = "pick-" + side;
      $("pickers").append(side === "left" ? "Left" : "Right", group);
      choices(group.id, letters.map((l) => [l, l === "R" ? "Original" : l, data.videos[l].name]), (l) => pickSide(side, l));
    }
  }
  for (const [name, text] of KEYS) $("keys").append(element("dt", name), element("dd", text));
  $("play").addEventListener("click", () => (state.playing ? pause() : play()));
  $("back").addEventListener("click", () => step(-1));
  $("forth").addEventListener("click", () => step(1));
  $("theme").addEventListener("click", theme);
  $("help-button").addEventListener("click", () => $("help").showModal());
  document.addEventListener("keydown", key);
  new ResizeObserver(() => layout()).observe(stage);
  for (const video of Object.values(players)) video.addEventListener("loadeddata", () => seek(state.time), { once: true });
  names(); choose($("chips").firstElementChild?.dataset.value ?? ""); layout();
}
start();

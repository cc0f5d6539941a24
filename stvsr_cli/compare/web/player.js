const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const letters = Object.keys(data.videos), stage = $("stage"), slider = $("slider");
const players = {};
const state = { left: "A", right: "B", time: 0, playing: false, speed: 1, mode: "slider", split: 0.5, zoom: 0, x: 0, y: 0 };
const largest = letters.map((l) => data.videos[l]).reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
const finest = letters.map((l) => data.videos[l].times).reduce((a, b) => (b.length > a.length ? b : a));
const length = Math.min(...letters.map((l) => data.videos[l].end));
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const say = (text) => { $("trouble").hidden = !text; $("trouble").textContent = text; };

/** Index of the frame that is shown at a time. */
function frameAt(times, time) {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= time + 1e-4) low = middle; else high = middle - 1;
  }
  return low;
}

/** A moment well within the frame that is shown at a time, so that rounding never shows its neighbour. */
function within(letter, time) {
  const { times, end } = data.videos[letter], i = frameAt(times, time);
  return times[i] + 0.4 * ((times[i + 1] ?? end) - times[i]);
}

function blobOf(letter) {
  const text = $("video-" + letter).textContent.trim(), raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  $("video-" + letter).textContent = "";
  return new Blob([bytes], { type: data.videos[letter].mime });
}

/** A player each for the left and the right layer, since one element cannot stand in two places. */
function load() {
  for (const letter of letters) {
    const url = URL.createObjectURL(blobOf(letter));
    for (const side of ["left", "right"]) {
      const video = document.createElement("video");
      Object.assign(video, { src: url, muted: true, playsInline: true, preload: "auto", disablePictureInPicture: true });
      video.addEventListener("error", () => say(`${data.videos[letter].name} does not play in this browser.`));
      video.shown = -1;
      const watch = (_, frame) => { video.shown = frameAt(data.videos[letter].times, frame.mediaTime + 2e-3); video.requestVideoFrameCallback(watch); };
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(watch);
      $("layer-" + side).append(video);
      players[side + letter] = video;
    }
  }
}

const active = () => [["left", state.left], ["right", state.right]].map(([side, letter]) => [players[side + letter], letter]);

function seek(time) {
  state.time = clamp(time, 0, finest[frameAt(finest, length - 2e-3)]);
  for (const [video, letter] of active()) {
    const target = within(letter, state.time);
    if (Math.abs(video.currentTime - target) > 1e-4 && video.readyState > 0) video.currentTime = target;
  }
  refresh();
}

function step(count) {
  pause();
  seek(finest[clamp(frameAt(finest, state.time) + count, 0, finest.length - 1)]);
}

async function play() {
  if (state.time >= finest[frameAt(finest, length - 2e-3)] - 1e-3) seek(0);
  state.playing = true;
  const pair = active();
  for (const [video] of pair) video.playbackRate = state.speed;
  try { await Promise.all(pair.map(([video]) => video.play())); } catch { if (state.playing) pause(); return; }
  refresh();
  requestAnimationFrame(follow);
}

function pause() {
  if (!state.playing) return;
  state.playing = false;
  for (const key in players) players[key].pause();
  seek(state.time);
}

/** While both play, the left one is the clock; the right one is hurried or slowed until it is in step. */
function follow() {
  if (!state.playing) return;
  const [[clock], [other]] = active();
  const ahead = other.currentTime - clock.currentTime;
  if (Math.abs(ahead) > 0.15 && !other.seeking) other.currentTime = clock.currentTime;
  other.playbackRate = state.speed * (1 - clamp(ahead * 4, -0.25, 0.25));
  state.time = Math.min(clock.currentTime, length);
  if (clock.ended || other.ended || state.time >= length - 1e-3) {
    for (const [video] of active()) video.currentTime = 0;
    state.time = 0;
    for (const [video] of active()) video.play().catch(() => {});
  }
  refresh();
  requestAnimationFrame(follow);
}

const fit = () => { const w = state.mode === "side" ? stage.clientWidth / 2 : stage.clientWidth; return Math.min(w / largest.width, stage.clientHeight / largest.height); };
const scale = () => (state.zoom ? state.zoom / devicePixelRatio : fit());

function setZoom(zoom, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const before = scale(), smallest = fit() * devicePixelRatio;
  state.zoom = zoom && zoom > smallest * 1.001 ? Math.min(zoom, 8) : zoom && zoom >= 1 ? zoom : 0;
  const factor = scale() / before;
  state.x = x - (x - state.x) * factor;
  state.y = y - (y - state.y) * factor;
  layout();
}

function layout() {
  const s = scale(), half = state.mode === "side" ? stage.clientWidth / 2 : stage.clientWidth, tall = stage.clientHeight;
  const wide = largest.width * s, high = largest.height * s;
  state.x = wide <= half ? (half - wide) / 2 : clamp(state.x, half - wide, 0);
  state.y = high <= tall ? (tall - high) / 2 : clamp(state.y, tall - high, 0);
  const cut = state.split * stage.clientWidth;
  for (const side of ["left", "right"]) {
    const right = side === "right", beside = state.mode === "side";
    const layer = $("layer-" + side);
    layer.style.left = beside && right ? "50%" : "0";
    layer.style.right = beside && !right ? "50%" : "0";
    layer.style.clipPath = state.mode !== "slider" ? "" : right ? `inset(0 0 0 ${cut}px)` : `inset(0 ${stage.clientWidth - cut}px 0 0)`;
    for (const letter of letters) {
      const video = players[side + letter];
      video.classList.toggle("on", state[side] === letter);
      video.style.width = largest.width + "px";
      video.style.height = largest.height + "px";
      video.style.transform = `translate(${state.x}px, ${state.y}px) scale(${s})`;
    }
  }
  slider.style.left = cut + "px";
  slider.setAttribute("aria-valuenow", Math.round(100 * state.split));
  stage.className = [state.mode, wide > half + 1 || high > tall + 1 ? "zoomed" : "", state.pixels ? "pixels" : ""].join(" ");
  refresh();
}

/** The slider is dragged by its grip, or by the picture where there is nothing to pan; two fingers zoom. */
function gestures() {
  const held = new Map();
  let what = "", apart = 0;
  const spot = (event) => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const slide = (x) => { state.split = clamp(x / stage.clientWidth, 0, 1); layout(); };
  stage.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, spot(event));
    stage.setPointerCapture(event.pointerId);
    const [x] = spot(event);
    if (held.size === 2) { const [[a, b], [c, d]] = held.values(); what = "pinch"; apart = Math.hypot(a - c, b - d); return; }
    const grip = state.mode === "slider" && (slider.contains(event.target) || !stage.classList.contains("zoomed"));
    what = grip ? "slide" : "pan";
    if (grip) slide(x);
    stage.classList.toggle("panning", what === "pan");
  });
  stage.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const now = spot(event);
    held.set(event.pointerId, now);
    if (what === "slide") slide(now[0]);
    if (what === "pan") { state.x += now[0] - before[0]; state.y += now[1] - before[1]; layout(); stage.classList.add("panning"); }
    if (what === "pinch" && held.size === 2) {
      const [[a, b], [c, d]] = held.values(), reach = Math.hypot(a - c, b - d);
      setZoom(scale() * devicePixelRatio * (reach / apart), (a + c) / 2, (b + d) / 2);
      apart = reach;
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => { held.delete(event.pointerId); what = ""; stage.classList.remove("panning"); });
  stage.addEventListener("wheel", (event) => { event.preventDefault(); setZoom(scale() * devicePixelRatio * Math.exp(-event.deltaY / 400), ...spot(event)); }, { passive: false });
  stage.addEventListener("dblclick", (event) => setZoom(state.zoom ? 0 : 4, ...spot(event)));
}

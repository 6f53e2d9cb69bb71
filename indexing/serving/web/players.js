// Players that show exactly a clip's span, in a loop, in step with the query clip. A poster stands until the player is seen.

const players = new Set();
let isPaused = matchMedia("(prefers-reduced-motion: reduce)").matches;

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); entry.target.start(); }
}, { rootMargin: "120px" });

// A frame of the player's shape: the poster at once, the video over it once it can be seen and has its first picture.
// One that is `alone` keeps its own pace.
export function player(url, { start_s = 0, end_s = null, poster = "", label, alone = false, onSpan = () => {} }) {
  const box = document.createElement("div");
  box.className = "frames";
  let shown = Promise.resolve();
  if (poster) {
    const image = Object.assign(document.createElement("img"), { alt: "" });
    shown = new Promise((resolve) => { image.onload = resolve; image.onerror = () => { image.remove(); resolve(); }; });
    image.src = poster;
    box.append(image);
  }
  // A browser has few connections to one service: videos wait until the posters are there.
  box.start = async () => { await shown; if (box.isConnected) box.append(playing(url, { start_s, end_s, label, alone, onSpan, box })); };
  seen.observe(box);
  return box;
}

function playing(url, { start_s, end_s, label, alone, onSpan, box }) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, preload: "auto", src: url });
  video.setAttribute("aria-label", label);
  const one = { video, start_s, end_s, alone, isBad: false, frame_s: 1 / 25, shown_s: 0 };
  const end = () => Math.min(one.end_s ?? video.duration, video.duration);
  one.length = () => end() - one.start_s;
  const loop = () => { video.currentTime = one.start_s; if (!isPaused) video.play().catch(() => {}); };
  video.addEventListener("loadedmetadata", () => { loop(); onSpan(one.start_s, end(), video.duration); });
  video.addEventListener("seeked", () => video.classList.add("ready"), { once: true });
  video.addEventListener("playing", () => video.classList.add("ready"), { once: true });
  video.addEventListener("ended", loop);
  const watch = (_now, frame) => {
    if (frame) {
      const step = frame.mediaTime - one.shown_s;
      if (step > 0.002 && step < 0.2 && !video.paused && (!one.isMeasured || step < one.frame_s)) Object.assign(one, { frame_s: step, isMeasured: true });
      one.shown_s = frame.mediaTime;
      if (one.end_s !== null && frame.mediaTime >= one.end_s - 1e-3 && !video.paused) loop();
    }
    if (players.has(one)) video.requestVideoFrameCallback(watch);
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(watch);
  video.addEventListener("error", () => {
    if (!players.has(one)) return;
    one.isBad = true;
    const text = Object.assign(document.createElement("p"), { className: "empty", textContent: "This video cannot be played here." });
    box.replaceChildren(text);
  });
  players.add(one);
  return video;
}

export function forget(root) {
  for (const box of root.querySelectorAll(".frames")) seen.unobserve(box);
  for (const one of players) if (root.contains(one.video)) { players.delete(one); one.video.pause(); one.video.removeAttribute("src"); }
}

// The player in a box: its video, span, and how long a frame is shown.
export const playerIn = (box) => [...players].find((one) => box.contains(one.video)) || null;

export function togglePause() {
  isPaused = !isPaused;
  for (const { video } of players) isPaused ? video.pause() : video.play().catch(() => {});
  return isPaused;
}

// Clips last differently long: all run through their span in the time of the first one.
export function synchronise() {
  const ready = [...players].filter((one) => !one.isBad && !one.alone && one.video.readyState > 0 && one.length() > 0);
  if (isPaused || ready.length < 2) return;
  const [leader, ...others] = ready;
  const phase = (leader.video.currentTime - leader.start_s) / leader.length();
  for (const one of others) {
    one.video.playbackRate = Math.min(Math.max(one.length() / leader.length(), 0.5), 2);
    const wanted = one.start_s + phase * one.length();
    if (Math.abs(one.video.currentTime - wanted) > 0.12 * one.length()) one.video.currentTime = wanted;
  }
}

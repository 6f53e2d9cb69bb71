// Players that show exactly a clip's span, in a loop, and keep the same phase as the query clip.

const players = new Set();
let isPaused = matchMedia("(prefers-reduced-motion: reduce)").matches;

export function player(url, { start_s = 0, end_s = null, poster = "", label }) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, preload: "auto", src: url });
  if (poster) video.poster = poster;
  video.setAttribute("aria-label", label);
  const one = { video, start_s, end_s, isBad: false };
  const end = () => Math.min(end_s ?? video.duration, video.duration);
  one.length = () => end() - start_s;
  video.addEventListener("loadedmetadata", () => { video.currentTime = start_s; if (!isPaused) video.play().catch(() => {}); });
  const loop = () => { video.currentTime = start_s; if (!isPaused) video.play().catch(() => {}); };
  video.addEventListener("ended", loop);
  const watch = (_now, frame) => {
    if (frame && end_s !== null && frame.mediaTime >= end_s - 1e-3) loop();
    if (players.has(one)) video.requestVideoFrameCallback(watch);
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(watch);
  video.addEventListener("error", () => { one.isBad = true; video.replaceWith(note("This video cannot be played here.")); });
  players.add(one);
  return video;
}

export function forget(root) {
  for (const one of players) if (root.contains(one.video)) { one.video.pause(); one.video.removeAttribute("src"); players.delete(one); }
}

export function togglePause() {
  isPaused = !isPaused;
  for (const { video } of players) isPaused ? video.pause() : video.play().catch(() => {});
  return isPaused;
}

// Clips last differently long: all run through their span in the time of the first one.
export function synchronise() {
  const ready = [...players].filter((one) => !one.isBad && one.video.readyState > 0 && one.length() > 0);
  if (isPaused || ready.length < 2) return;
  const [leader, ...others] = ready;
  const phase = (leader.video.currentTime - leader.start_s) / leader.length();
  for (const one of others) {
    one.video.playbackRate = Math.min(Math.max(one.length() / leader.length(), 0.5), 2);
    const wanted = one.start_s + phase * one.length();
    if (Math.abs(one.video.currentTime - wanted) > 0.12 * one.length()) one.video.currentTime = wanted;
  }
}

function note(text) {
  const p = document.createElement("p");
  p.className = "empty";
  p.textContent = text;
  return p;
}

// Labelling: keys label while the clip plays, suggestions of heads that are refitted behind the clicks, ends that move frame by frame.

import { exportedLabels, get } from "/web/api.js";
import { click, numWaiting, setUpClicks } from "/web/clicks.js";
import { forget, player, playerIn } from "/web/players.js";
import { toggleSheet } from "/web/sheets.js";
import { button, describe, el, posterButton, seconds } from "/web/view.js";

const $ = (id) => document.getElementById(id);
const NUM_KEYS = 9, AGAIN_MS = 3000;
const FORMATS = [["csv", "labels.csv", "CSV"], ["label-studio", "tasks.json", "Label Studio"], ["osl", "osl.json", "OSL"]];
const answered = new Set(), thumbs = new Map();
let known = [], counts = { num_labelled: 0, heads: null }, queue = [], current = null, done = [], undone = [], fail = () => {}, asking = null;

export const isLabelling = () => !$("labelling").hidden;

export async function setUpLabels(collection, { say, onFail }) {
  fail = onFail;
  $("labelling-button").hidden = false;
  setUpClicks(collection, { onChange: showProgress, onRefused: say });
  $("labelling-button").addEventListener("click", () => { toggleSheet("labelling"); if (isLabelling()) open(); else forget($("label-player")); });
  $("label-form").addEventListener("submit", (event) => { event.preventDefault(); const text = $("label-text").value.trim(); if (text) label(text); });
  const ends = (side, back, on) => [button(back, `${side} one frame earlier`, () => move(side, -1)), button(on, `${side} one frame later`, () => move(side, 1))];
  $("start-buttons").append(...ends("start", "\u2212", "+"));
  $("end-buttons").append(...ends("end", "\u2212", "+"));
  const save = (format, name) => async () => { try { el("a", { href: URL.createObjectURL(await exportedLabels(format)), download: name }).click(); } catch (error) { fail(error); } };
  $("label-actions").append(
    button("skip", "ask another clip (s)", skip), button("undo", "take the last click back (u)", undo), button("redo", "do it again (y)", redo),
    ...FORMATS.map(([format, name, text]) => button(`save ${text}`, `all labels as ${text}`, save(format, name), { className: "plain" })));
  $("label-groups-box").addEventListener("toggle", () => { if ($("label-groups-box").open) showGroups(); });
  try { await refresh(); } catch (error) { fail(error); }
}

async function refresh() {
  counts = await get("/v1/labels");
  known = counts.labels;
  $("label-list").replaceChildren(...known.map((one) => el("option", { value: one.label })));
  showProgress();
}

function showProgress() {
  const heads = counts.heads;
  const parts = [`${counts.num_labelled} labelled by clicks`];
  if (heads) parts.push(`suggestions know ${heads.num_labelled} labelled clips`);
  if (numWaiting()) parts.push(`${numWaiting()} waiting to be stored`);
  $("label-progress").textContent = parts.join(" \u00b7 ");
  $("labelling-button").textContent = numWaiting() ? `label (${numWaiting()} waiting)` : "label";
}

async function open() {
  $("label-text").value = "";
  if (current) return show(current);
  $("label-name").textContent = "Looking through the clips ...";
  await fill();
  next();
}

// Asks for more clips before the last one is shown; what was answered here meanwhile is left out.
function fill() {
  asking ??= (async () => {
    try {
      const clips = await get("/v1/labels/next?limit=12");
      queue = clips.filter((clip) => !answered.has(clip.clip_id) && clip.clip_id !== current?.clip_id);
      await refresh();
      return true;
    } catch (error) { fail(error); return false; } finally { asking = null; }
  })();
  return asking;
}

async function next() {
  if (!queue.length && !(await fill())) {  // such as a first look at many clips that takes long
    $("label-name").textContent = "No clips yet; asking again in a moment ...";
    setTimeout(() => { if (isLabelling() && !queue.length) next(); }, AGAIN_MS);
    return;
  }
  const clip = queue.shift();
  if (queue.length < 4) fill();
  if (clip) show(clip);
  else { current = null; forget($("label-player")); $("label-player").replaceChildren(el("p", { className: "empty", textContent: "Every clip has a label." })); $("label-name").textContent = ""; $("label-choices").replaceChildren(); }
}

function choices(clip) {
  const suggested = clip.suggestions.map((one) => [one.label, `${(100 * one.probability).toFixed(0)} %`]);
  const rest = known.filter((one) => !suggested.some(([name]) => name === one.label)).sort((a, b) => b.num_clicked - a.num_clicked).map((one) => [one.label, ""]);
  return [...suggested, ...rest].slice(0, NUM_KEYS);
}

function show(clip) {
  current = clip;
  // A video that was left before it was there says its span late.
  const onSpan = (start, end) => current?.clip_id === clip.clip_id && showSpan(start, end);
  forget($("label-player"));
  $("label-player").replaceChildren(player(clip.media_url, { start_s: clip.start_s ?? 0, end_s: clip.end_s, poster: clip.poster_url, label: clip.clip_id, alone: true, onSpan }));
  $("label-name").textContent = [clip.label, describe(clip), clip.clip_id].filter(Boolean).join(" \u00b7 ");
  $("label-text").value = "";
  showSpan(clip.start_s ?? 0, clip.end_s);
  $("label-choices").replaceChildren(...choices(clip).map(([name, text], n) =>
    el("button", { type: "button", onclick: () => label(name), "aria-keyshortcuts": String(n + 1), "aria-pressed": String(clip.label === name) }, el("b", { textContent: `${n + 1}\u2002${name}` }), el("span", { textContent: text }))));
}

function showSpan(start, end) {
  $("label-start").textContent = `${start.toFixed(3)} s`;
  $("label-end").textContent = end === null ? "end of the video" : `${end.toFixed(3)} s`;
}

// `after` is the clip as the click leaves it; without, the click answers it, and another one is shown.
function remember(before, click_id, { after = null, isLabel = false } = {}) { done.push({ before: { ...before }, after, isLabel, click_id }); undone = []; }

function label(name) {
  if (!current) return;
  const clip = current;
  remember(clip, click({ kind: "label", clip_id: clip.clip_id, label: name }), { isLabel: true });
  answered.add(clip.clip_id);
  if (!known.some((one) => one.label === name)) { known.push({ label: name, num_clicked: 1, attributes: {} }); $("label-list").append(el("option", { value: name })); }
  counts.num_labelled += 1;
  if (document.activeElement === $("label-text")) $("label-text").blur();
  next();
}

function skip() {
  if (!current) return;
  remember(current, click({ kind: "skip", clip_id: current.clip_id }));
  answered.add(current.clip_id);
  next();
}

// An undo is a click too, and so is the undo of an undo.
function turn(from, to) {
  const last = from.pop();
  if (last) to.push({ ...last, click_id: click({ kind: "undo", clip_id: last.before.clip_id, undoes: last.click_id }) });
  return last;
}

const count = ({ isLabel }, change) => { if (isLabel) { counts.num_labelled += change; showProgress(); } };

function undo() {
  const last = turn(done, undone);
  if (!last) return;
  const { before, after } = last;
  if (!after) answered.delete(before.clip_id);
  count(last, -1);
  if (current && current.clip_id !== before.clip_id) queue.unshift(current);
  show(before);
}

function redo() {
  const last = turn(undone, done);
  if (!last) return;
  count(last, 1);
  if (last.after) return show({ ...last.after });
  answered.add(last.before.clip_id);
  queue = queue.filter((one) => one.clip_id !== last.before.clip_id);
  if (current?.clip_id === last.before.clip_id) next();
}

function move(side, frames) {
  const shown = current && playerIn($("label-player"));
  if (!shown || !(shown.video.duration > 0)) return;
  const step = frames * shown.frame_s, end = shown.end_s ?? shown.video.duration;
  let [start_s, end_s] = side === "start" ? [Math.max(shown.start_s + step, 0), end] : [shown.start_s, Math.min(end + step, shown.video.duration)];
  if (end_s - start_s < shown.frame_s) return;
  [start_s, end_s] = [Math.round(1e6 * start_s) / 1e6, Math.round(1e6 * end_s) / 1e6];
  const after = { ...current, start_s, end_s };
  remember(current, click({ kind: "span", clip_id: current.clip_id, start_s, end_s }), { after });
  Object.assign(shown, { start_s, end_s });
  current = after;
  shown.video.pause();
  shown.video.currentTime = side === "start" ? start_s : Math.max(end_s - shown.frame_s, start_s);
  showSpan(start_s, end_s);
}

function stepFrame(frames) {
  const shown = playerIn($("label-player"));
  if (!shown) return;
  shown.video.pause();
  shown.video.currentTime = Math.max(shown.video.currentTime + frames * shown.frame_s, 0);
}

function play() {
  const shown = playerIn($("label-player"));
  if (!shown) return;
  if (shown.video.paused) shown.video.play().catch(() => {}); else shown.video.pause();
}

async function showGroups() {
  $("label-groups").replaceChildren(el("p", { className: "quiet", textContent: "Looking for groups ..." }));
  try {
    const groups = await get("/v1/labels/groups?limit=12");
    $("label-groups").replaceChildren(...(groups.length ? groups.flatMap(groupRow) : [el("p", { className: "quiet", textContent: "Every clip has a label." })]));
  } catch (error) { fail(error); }
}

function groupRow(group) {
  const best = group.clips[0].suggestions[0];
  const all = (name) => { for (const clip of group.clips) if (!answered.has(clip.clip_id)) { remember(clip, click({ kind: "label", clip_id: clip.clip_id, label: name }), { isLabel: true }); answered.add(clip.clip_id); counts.num_labelled += 1; } queue = queue.filter((one) => !answered.has(one.clip_id)); showGroups(); if (current && answered.has(current.clip_id)) next(); };
  const row = el("div", { className: "group" }, el("b", { textContent: `${group.num_clips} clips` }));
  if (best) row.append(button(`these ${group.clips.length} show ${best.label}`, `label the ${group.clips.length} clips shown as ${best.label}; the first one is so to ${(100 * best.probability).toFixed(0)} %`, () => all(best.label)));
  const posters = el("div", { className: "posters" }, ...group.clips.map((clip) => posterButton(clip, () => { show(clip); $("labelling").scrollIntoView({ block: "start" }); })));
  return [row, posters];
}

// --- Thumbs on answers: the answer shows the label that was asked for, or does not.

function askedLabel(clip, edits, reading) {
  if (!edits.length) return clip?.label || "";
  const asked = reading.map((read) => [read.name, read.asked ?? read.value]).map(([name, value]) => [name, value === "unknown" ? "" : value]);
  const fitting = known.filter((one) => Object.keys(one.attributes).length && asked.every(([name, value]) => (one.attributes[name] ?? "") === value));
  return asked.length && fitting.length === 1 ? fitting[0].label : "";
}

export function labelByThumb(hit, sign, before, { clip, edits, reading }) {
  const earlier = before && thumbs.get(hit.clip_id);
  if (earlier) { click({ kind: "undo", clip_id: hit.clip_id, undoes: earlier }); thumbs.delete(hit.clip_id); answered.delete(hit.clip_id); }
  const name = askedLabel(clip, edits, reading);
  if (!sign || !name) { $("label-note").textContent = sign ? "This thumb ranks the answers only: what was asked for is not one label." : ""; return; }
  thumbs.set(hit.clip_id, click({ kind: sign > 0 ? "label" : "not", clip_id: hit.clip_id, label: name }));
  if (sign > 0) answered.add(hit.clip_id);
  $("label-note").textContent = sign > 0 ? `${hit.clip_id} is labelled ${name}.` : `${hit.clip_id} is not ${name}.`;
}

// True where a key was taken.
export function labellingKey(event) {
  const number = Number(event.key);
  const act = {
    s: skip, u: undo, y: redo, " ": event.target.tagName === "BUTTON" ? null : play, ",": () => stepFrame(-1), ".": () => stepFrame(1), l: () => $("label-text").focus(),
    "[": () => move("start", -1), "]": () => move("start", 1), "{": () => move("end", -1), "}": () => move("end", 1),
    Escape: () => { toggleSheet("labelling", false); forget($("label-player")); $("labelling-button").focus(); },
  }[event.key] || (number >= 1 && number <= NUM_KEYS ? () => $("label-choices").children[number - 1]?.click() : null);
  if (!act) return false;
  event.preventDefault();
  act();
  return true;
}

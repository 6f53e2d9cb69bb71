// The page: one state, drawn again after every change, and kept in the URL.

import { clipOf, get, search, takeToken } from "/web/api.js";
import { isLabelling, labelByThumb, labellingKey, setUpLabels } from "/web/labels.js";
import { forget, player, synchronise, togglePause } from "/web/players.js";
import { isKept, setUpBasket, setUpBrowse, showTimeline, toggleSheet } from "/web/sheets.js";
import { button, clipPlayer, describe, el, hitCard, qualityPanel, readingChips, seconds, skeletons, wish } from "/web/view.js";

const $ = (id) => document.getElementById(id);
const state = { clip: null, file: null, edits: [], source: {}, thumbs: new Map(), collection: null, turn: 0, reading: [] };

let keepInBasket = () => false, browse = () => {};

function say(text, kind = "") { $("message").textContent = text; $("message").className = kind; }
function fail(error) {
  say(error.message, "bad");
  if (error.request) $("message").append(el("small", { textContent: ` For whoever runs the service: request ${error.request}` }));
}

function showQuery() {
  const box = $("query-player");
  forget(box);
  if (state.file) box.replaceChildren(player(URL.createObjectURL(state.file), { label: `uploaded ${state.file.name}` }));
  else if (state.clip) box.replaceChildren(clipPlayer(state.clip));
  else box.replaceChildren(el("p", { className: "empty", textContent: "No clip: the words alone. Or drop a video here" }));
  const clip = state.clip;
  $("query-name").textContent = state.file ? state.file.name : clip ? [clip.label, describe(clip), seconds(clip), clip.clip_id].filter(Boolean).join(" \u00b7 ") : "";
  showTimeline(clip, pick).catch(() => {});
  suggest();
}

function showChain() {
  $("chain").replaceChildren(...state.edits.map((edit, number) => el("li", {}, edit,
    el("button", { type: "button", textContent: "\u00d7", "aria-label": `undo from ${edit}`, onclick: () => { state.edits.length = number; ask(); } }))));
}

function suggest() {
  const own = state.clip?.attributes || {};
  const phrases = Object.entries(state.collection.attributes).flatMap(([name, values]) =>
    values.length > 1 ? values.filter((value) => own[name] !== value).map((value) => wish(name, value)).filter(Boolean) : []);
  const step = Math.max(1, Math.ceil(phrases.length / 10));
  const counted = Object.entries(state.collection.attributes).find(([name, values]) => /s$/.test(name) && values.length > 1 && values.every((value) => /^\d/.test(value)));
  const more = counted ? [`with one more ${counted[0].replaceAll("_", " ").replace(/s$/, "")}`] : [];
  const shown = [...more, ...phrases.filter((_, i) => i % step === 0)].slice(0, 10);
  $("edit").placeholder = shown.at(-1) || "what should be different";
  $("suggestions").replaceChildren(...shown.map((text) => el("button", { type: "button", textContent: text, onclick: () => { $("edit").value = text; submit(); } })));
}

function filters() {
  const chosen = {};
  for (const select of $("filters").querySelectorAll("select")) if (select.value) chosen[select.name] = select.value;
  const [low, high] = ["min-s", "max-s"].map((id) => ($(id)?.value ? Number($(id).value) : null));
  if (low !== null || high !== null) chosen.duration_s = [low, high];
  return chosen;
}

function question() {
  const thumbs = (sign) => [...state.thumbs].filter(([, value]) => value === sign).map(([id]) => id);
  return {
    clip: state.file ? "" : state.clip?.clip_id || "", edits: state.edits, keep: $("keep").value.trim(), exclude: $("exclude").value.trim(),
    source: state.clip || state.file ? state.source : {}, strength: Number($("strength").value), limit: Number($("limit").value) || 12, filters: filters(), group_by_video: $("by-video").checked,
    group_above: $("near").checked ? 0.98 : 1, liked: thumbs(1), disliked: thumbs(-1),
  };
}

function remember(query) {
  const kept = Object.fromEntries(Object.entries(query).filter(([name, value]) => name !== "liked" && name !== "disliked" && JSON.stringify(value) !== JSON.stringify(DEFAULTS[name])));
  const url = state.file ? location.pathname : `${location.pathname}?q=${encodeURIComponent(JSON.stringify(kept))}`;
  if (url !== location.pathname + location.search) history.pushState(null, "", url);
}
const DEFAULTS = { clip: "", edits: [], source: {}, keep: "", exclude: "", strength: 1, limit: 12, filters: {}, group_by_video: false, group_above: 1 };

async function ask({ push = true } = {}) {
  showChain();
  const query = question();
  if (!query.clip && !state.file && !query.edits.length) { showHits([]); return say("Pick a clip or say what you look for."); }
  const turn = ++state.turn;
  if (push) remember(query);
  busy(state.file);
  say(state.file ? `Uploading ${state.file.name} ...` : "Searching ...");
  const started = performance.now();
  try {
    const result = await search(query, state.file, (share) => { if (turn === state.turn) uploaded(share); });
    if (turn !== state.turn) return;
    const took = `${(performance.now() - started).toFixed(0)} ms`;
    const what = result.edit_text || "most similar clips";
    if (!result.hits.length) noAnswers(query);
    else if (result.has_match === false) say(`Nothing in the archive seems to match \u201c${what}\u201d: ${result.mismatch_text}. The nearest clips:`, "doubt");
    else say(`${result.hits.length} answers for \u201c${what}\u201d in ${took}`);
    showReading(result.reading);
    showHits(result.hits);
  } catch (error) { if (turn === state.turn) { showHits([]); fail(error); } }
  finally { if (turn === state.turn) { $("hits").removeAttribute("aria-busy"); $("progress").hidden = true; } }
}

// Old answers to the same clip fade; those to another clip make room.
function busy(isUpload) {
  $("hits").setAttribute("aria-busy", "true");
  $("link").hidden = true;
  if (!isUpload) return;
  forget($("hits"));
  $("hits").replaceChildren(...skeletons(4));
  uploaded(0);
}

function uploaded(share) {
  const percent = Math.round(100 * share);
  $("progress").hidden = false;
  $("progress").replaceChildren(el("i"));
  $("progress").firstChild.style.width = `${percent}%`;
  $("progress").setAttribute("aria-valuenow", String(percent));
  if (share >= 1) say("Looking at the video ...");
}

function noAnswers(query) {
  say("No clip matches.");
  if (!Object.keys(query.filters).length) return;
  say("No clip passes the filters. ");
  $("message").append(el("button", { type: "button", textContent: "clear filters", onclick: () => { for (const field of $("filters").querySelectorAll("select, input")) field.value = ""; ask(); } }));
}

function showReading(reading) {
  state.reading = reading;
  const correct = (name, value) => { state.source = { ...state.source, [name]: value }; ask(); };
  $("reading").replaceChildren(...(state.edits.length ? readingChips(reading, state.collection.attributes, { correct }) : []));
}

// The answers as cards. What had the focus has it afterwards: the same button of the same clip, or else the first card.
function showHits(hits) {
  const focused = document.activeElement?.closest?.(".hit");
  const [clip, key] = [focused?.dataset.clip, document.activeElement?.dataset?.key];
  forget($("hits"));
  const on = {
    chain: (hit) => { pick(hit); $("edit").focus(); scrollTo({ top: 0, behavior: "smooth" }); },
    keep: (hit) => { keepInBasket(hit); showHits(hits); },
    thumb: (hit, sign) => {
      const before = state.thumbs.get(hit.clip_id), taken = before === sign ? 0 : sign;
      if (taken) state.thumbs.set(hit.clip_id, taken); else state.thumbs.delete(hit.clip_id);
      if (state.collection.can_label) labelByThumb(hit, taken, before, state);
      ask({ push: false });
    },
  };
  $("hits").replaceChildren(...hits.map((hit, i) => hitCard(hit, i + 1, { thumbs: state.thumbs, isKept: isKept(hit), on })));
  $("link").hidden = !hits.length || Boolean(state.file);
  if (!focused) return;
  const card = $("hits").querySelector(`[data-clip="${CSS.escape(clip)}"]`) || $("hits").firstElementChild;
  (key && card?.dataset.clip === clip ? card.querySelector(`[data-key="${CSS.escape(key)}"]`) : card)?.focus();
}

function pick(clip) {
  Object.assign(state, { clip, file: null, edits: [], source: {}, thumbs: new Map() });
  showQuery();
  return ask();
}

function take(file) {
  if (!file) return;
  Object.assign(state, { clip: null, file, edits: [], source: {}, thumbs: new Map() });
  showQuery();
  ask();
}

function submit() {
  const edit = $("edit").value.trim();
  if (edit) state.edits.push(edit);
  state.thumbs.clear();
  $("edit").value = "";
  ask();
}

async function random() {
  try { const [clip] = await get(`/v1/clips?limit=1&seed=${Math.floor(Math.random() * 1e6)}`); if (clip) await pick(await clipOf(clip.clip_id)); } catch (error) { fail(error); }
}

async function copyLink() {
  try { await navigator.clipboard.writeText(location.href); say("The link to this question is in the clipboard."); }
  catch { say(`The link to this question: ${location.href}`); }
}

function drawFilters() {
  const choice = (name, values) => el("label", {}, name.replaceAll("_", " "), el("select", { name, onchange: () => ask() }, el("option", { value: "", textContent: "any" }), ...values.map((value) => el("option", { value, textContent: value }))));
  const many = Object.entries(state.collection.attributes).filter(([, values]) => values.length > 1);
  $("filters").replaceChildren(choice("split", state.collection.splits), choice("label", Object.keys(state.collection.labels)), ...many.map(([name, values]) => choice(name, values)),
    el("label", {}, "seconds", el("span", {}, el("input", { id: "min-s", type: "number", min: 0, step: 0.5, placeholder: "from", "aria-label": "at least, seconds", onchange: () => ask() }), el("input", { id: "max-s", type: "number", min: 0, step: 0.5, placeholder: "to", "aria-label": "at most, seconds", onchange: () => ask() }))));
}

async function restore() {
  let query = {}, isDamaged = false;
  try { query = JSON.parse(new URLSearchParams(location.search).get("q") || "{}"); } catch { isDamaged = true; }
  const whole = { ...DEFAULTS, ...query };
  Object.assign(state, { file: null, clip: null, edits: [...whole.edits].map(String), source: { ...whole.source }, thumbs: new Map() });
  $("keep").value = whole.keep; $("exclude").value = whole.exclude; $("limit").value = whole.limit;
  $("strength").value = whole.strength; $("strength-out").textContent = Number(whole.strength).toFixed(1);
  $("by-video").checked = whole.group_by_video; $("near").checked = whole.group_above < 1;
  for (const select of $("filters").querySelectorAll("select")) select.value = whole.filters[select.name] || "";
  if (whole.clip) { try { state.clip = await clipOf(whole.clip); } catch (error) { fail(error); return; } }
  showQuery();
  if (whole.clip || whole.edits.length) await ask({ push: false }); else await random();
  if (isDamaged) say("This link is damaged; here is a random clip.", "bad");
}

async function showQuality() {
  const panel = $("quality");
  if (!panel.hidden) try { panel.replaceChildren(...qualityPanel(await get("/v1/quality"), state.collection)); } catch (error) { panel.textContent = error.message; }
}

function keys(event) {
  const card = event.target.closest?.(".hit");
  const isTyping = /INPUT|SELECT|TEXTAREA/.test(event.target.tagName);
  if (isTyping) { if (event.key === "Escape") event.target.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (isLabelling() && !card && labellingKey(event)) return;
  const onButton = /BUTTON|A|SUMMARY|LABEL/.test(event.target.tagName);
  const press = (key) => card?.querySelector(`[data-key="${key}"]`)?.click();
  const act = {
    "/": () => $("edit").focus(), r: random, b: () => browse(), u: () => { if (state.edits.pop() !== undefined) ask(); },
    " ": onButton ? null : togglePause, Enter: card && !onButton ? () => press("edit") : null,
    "+": () => press("more like this"), "-": () => press("less like this"), a: () => press("keep"),
    Escape: () => ["browse", "basket"].forEach((name) => toggleSheet(name, false)),
    ArrowRight: () => (card ? card.nextElementSibling : $("hits").firstElementChild)?.focus(), ArrowLeft: () => card?.previousElementSibling?.focus(),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
}

async function start() {
  takeToken();
  try { [state.collection] = (await get("/v1/collections")).collections; }
  catch (error) { return fail(error); }
  $("archive").textContent = `, of ${state.collection.num_clips.toLocaleString("en")} in \u201c${state.collection.name}\u201d`;
  if (!state.collection.is_counted) $("archive").title = `labels and values are of the first ${state.collection.num_counted.toLocaleString("en")} clips so far`;
  drawFilters();
  browse = setUpBrowse(state.collection, { choose: pick, fail });
  keepInBasket = setUpBasket(state.collection, { choose: pick, fail, say });
  if (state.collection.can_label) setUpLabels(state.collection, { say, onFail: fail });
  for (const id of ["browse-button", "pick"]) $(id).addEventListener("click", () => browse());
  $("basket-button").addEventListener("click", () => toggleSheet("basket"));
  $("link").addEventListener("click", copyLink);
  $("form").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  for (const id of ["keep", "exclude", "strength", "limit", "by-video", "near"]) $(id).addEventListener("change", () => ask());
  $("strength").addEventListener("input", () => { $("strength-out").textContent = Number($("strength").value).toFixed(1); });
  $("random").addEventListener("click", random);
  $("no-clip").addEventListener("click", () => pick(null));
  $("upload").addEventListener("change", (event) => take(event.target.files[0]));
  $("upload-button").addEventListener("click", () => $("upload").click());
  const drop = $("query-player");
  for (const kind of ["dragover", "dragleave", "drop"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", kind === "dragover"); if (kind === "drop") take(event.dataTransfer.files[0]); });
  $("quality-button").addEventListener("click", () => { const panel = $("quality"); panel.hidden = !panel.hidden; $("quality-button").setAttribute("aria-expanded", String(!panel.hidden)); showQuality(); });
  document.addEventListener("keydown", keys);
  addEventListener("popstate", restore);
  setInterval(synchronise, 250);
  setInterval(showQuality, 2000);
  await restore();
}

start();

"use strict";
// Draws the lanes: only those in view, as elements whose text is set as text.
// Times are nanoseconds since the boot.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const svgNS = "http://www.w3.org/2000/svg";

  // The kinds of bars and marks, as in data.go.
  const bars = ["pending", "live", "suspended", "ready", "run", "held", "early"];
  const marks = ["uevent", "udev", "link", "other", "found", "opened", "exit", "crash", "exec", "created", "loaded",
    "live", "resumed", "suspended", "linked", "ready", "removed", "refused", "failed", "service", "loss"];
  // Where two marks fall into one place, the later of these is drawn; those of
  // the first rank are ticks that never hide another.
  const rank = { uevent: 0, udev: 0, link: 0, other: 0, resumed: 1, suspended: 1, found: 2, service: 2, opened: 3, exit: 4,
    exec: 5, created: 6, loaded: 7, live: 8, linked: 9, ready: 10, crash: 11, removed: 12, refused: 13, loss: 14, failed: 15 };
  const legend = [
    ["created", "created"], ["loaded", "table loaded"], ["live", "live"], ["linked", "linked"], ["ready", "ready"],
    ["removed", "removed"], ["exec", "exec"], ["opened", "opened"], ["failed", "open failed"], ["refused", "request failed"],
    ["exit", "exit"], ["crash", "exit with an error"], ["found", "there before tracing began"], ["loss", "events lost"], ["udev", "udev, kernel, links"]];
  const barLegend = [["pending", "no live table"], ["live", "live"], ["suspended", "suspended"], ["ready", "ready"],
    ["run", "running"], ["held", "held"], ["early", "too early"]];
  const apart = 11; // pixels between marks that are drawn
  const printed = 400; // lanes that are printed at most
  const paper = 400; // pixels that a printed page has for the axis

  const state = {
    view: data.view.slice(), groups: [], rows: [], tops: [], height: 0, width: 0,
    current: -1, mark: null, narrow: false, kinds: new Set(), finding: -1,
  };
  const lanes = byId("lanes"), tip = byId("tip"), axis = byId("axis"), cursor = byId("cursor");
  const shown = new Map(); // row index -> element

  function el(tag, attributes, parent) {
    const e = document.createElementNS(svgNS, tag);
    for (const k in attributes) e.setAttribute(k, attributes[k]);
    if (parent) parent.append(e);
    return e;
  }
  function box(className, text, parent) {
    const e = document.createElement("div");
    e.className = className;
    if (text) e.textContent = text;
    if (parent) parent.append(e);
    return e;
  }
  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

  // Numbers.
  function decimals(step) {
    let n = 0;
    for (let unit = 1e9; unit > step * 1.0001 && n < 9; unit /= 10) n++;
    return n;
  }
  const seconds = (ns, digits = 6) => (ns / 1e9).toFixed(digits) + " s";
  function duration(ns) {
    if (ns < 1e3) return ns + " ns";
    if (ns < 1e6) return (ns / 1e3).toPrecision(3) + " µs";
    if (ns < 1e9) return (ns / 1e6).toPrecision(3) + " ms";
    if (ns < 100e9) return (ns / 1e9).toFixed(3) + " s";
    const s = Math.round(ns / 1e9), two = (large, name, small, smallName) =>
      `${Math.floor(s / large)} ${name}` + (Math.floor(s % large / small) ? ` ${Math.floor(s % large / small)} ${smallName}` : "");
    return s < 3600 ? two(60, "min", 1, "s") : s < 48 * 3600 ? two(3600, "h", 60, "min") : two(24 * 3600, "days", 3600, "h");
  }
  function wall(ns) {
    if (!data.wall) return "";
    const d = new Date(data.wall + ns / 1e6);
    return isNaN(d) ? "" : d.toISOString().slice(11, 23) + " UTC";
  }

  // The axis.
  const span = () => state.view[1] - state.view[0];
  const x = (t) => (t - state.view[0]) / span() * state.width;
  const time = (px) => state.view[0] + px / state.width * span();

  function show(from, to) {
    const least = 2e3, room = data.to - data.from;
    let width = clamp(to - from, least, Math.max(room, least));
    const middle = (from + to) / 2;
    from = clamp(middle - width / 2, Math.min(data.from, data.to - width), data.to - width);
    state.view = [from, from + width];
    draw();
  }
  const zoom = (factor, at = (state.view[0] + state.view[1]) / 2) =>
    show(at - (at - state.view[0]) * factor, at + (state.view[1] - at) * factor);
  const move = (part) => show(state.view[0] + span() * part, state.view[1] + span() * part);
  const around = (from, to) => {
    const margin = Math.max((to - from) * 0.3, 2e6);
    show(from - margin, to + margin);
  };

  function ticks() {
    const least = span() / state.width * 90, power = 10 ** Math.floor(Math.log10(least));
    const step = Math.max([1, 2, 5, 10].find((digit) => digit * power >= least) * power, 1);
    const list = [];
    for (let t = Math.ceil(state.view[0] / step) * step; t <= state.view[1]; t += step) list.push(t);
    return { list, digits: decimals(step) };
  }

  function gapsInto(svg, height) {
    for (const g of data.gaps) {
      const from = clamp(x(g.from), -5, state.width + 5), to = clamp(x(g.to), -5, state.width + 5);
      if (to > -5 && from < state.width + 5) el("rect", { class: "gap", x: from, y: 0, width: Math.max(to - from, 3), height }, svg);
    }
  }

  function drawAxis(t) {
    const svg = axis.firstElementChild;
    svg.replaceChildren();
    gapsInto(svg, 5);
    let free = -Infinity;
    for (const at of t.list) {
      const px = x(at), label = (at / 1e9).toFixed(t.digits) + " s", half = label.length * 3.4;
      el("line", { x1: px, x2: px, y1: 24, y2: 30 }, svg);
      if (px - half < free || px - half < -60 || px + half > state.width + 60) continue;
      el("text", { x: clamp(px, half - Number(byId("head").dataset.left), state.width + 200), y: 18 }, svg).textContent = label;
      free = px + half + 8;
    }
  }

  // The whole record, with what went wrong and where the view is.
  function drawOverview() {
    const canvas = byId("overview").firstElementChild, scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const c = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    c.scale(scale, scale);
    const counts = [new Uint32Array(width + 1), new Uint32Array(width + 1), new Uint32Array(width + 1)];
    const place = (t) => clamp(Math.round((t - data.from) / (data.to - data.from) * width), 0, width);
    for (const g of data.groups) {
      for (const l of g.lanes) {
        for (const m of l.marks) {
          const kind = marks[m[2]];
          if (kind === "failed" || kind === "loss" || kind === "crash") counts[2][place(m[0])]++;
          else if (kind === "opened" || kind === "exec") counts[1][place(m[0])]++;
          else if (rank[kind] > 5) counts[0][place(m[0])]++;
        }
      }
    }
    let most = 1;
    for (let i = 0; i <= width; i++) most = Math.max(most, counts[0][i] + counts[1][i] + counts[2][i]);
    const colors = ["--ready", "--run", "--bad"].map((n) => resolved(style, n));
    for (let i = 0; i <= width; i++) {
      let y = height - 2;
      counts.forEach((list, k) => {
        if (!list[i]) return;
        const h = Math.max(Math.log1p(list[i]) / Math.log1p(most) * (height - 6), 3);
        c.fillStyle = colors[k];
        c.fillRect(i - 0.5, y - h, 1.5, h);
        y = Math.max(y - h, 2);
      });
    }
    c.fillStyle = resolved(style, "--hatch");
    c.globalAlpha = 0.45;
    for (const g of data.gaps) c.fillRect(place(g.from), 0, Math.max(place(g.to) - place(g.from), 2), height);
  }
  // A canvas knows no light-dark(): an element's computed color does.
  function resolved(style, name) {
    cursor.style.color = `var(${name})`;
    const color = getComputedStyle(cursor).color;
    cursor.style.color = "";
    return color;
  }
  function drawWindow() {
    const all = data.to - data.from, w = byId("window");
    w.style.left = `${(state.view[0] - data.from) / all * 100}%`;
    w.style.width = `${span() / all * 100}%`;
  }

  // What is shown, from the search and the choices.
  function choose() {
    const wanted = byId("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const only = byId("only").checked, layers = byId("private").checked;
    state.groups = data.groups.filter((g) => {
      if (g.kind === "record") return true;
      if (g.private && !layers) return false;
      if (only && !g.class) return false;
      if (state.kinds.size && !(g.kinds || []).some((k) => state.kinds.has(k))) return false;
      return wanted.every((w) => g.search.includes(w));
    });
    layOut();
  }

  function layOut() {
    state.narrow = !state.printing && window.matchMedia("(max-width: 760px)").matches;
    const heights = state.narrow ? { head: 48, nested: 46, gap: 12 } : { head: 30, nested: 28, gap: 9 };
    state.rows = [];
    state.tops = [];
    let y = 6, before = "";
    for (const g of state.groups) {
      const nested = g.kind === "mapping" && before === "mapping";
      g.lanes.forEach((l, i) => {
        const head = g.kind === "guest" && i === 0;
        if (i === 0 && state.rows.length && !nested) y += heights.gap;
        const height = head ? heights.head : heights.nested;
        state.rows.push({ group: g, lane: l, first: i === 0 && !nested, kind: head ? "guest" : g.kind === "guest" ? "disk" : g.kind, y, height });
        state.tops.push(y);
        y += height;
      });
      before = g.kind;
    }
    state.height = y + 6;
    lanes.style.height = state.height + "px";
    const guests = state.groups.filter((g) => g.kind === "guest").length, total = data.groups.filter((g) => g.kind === "guest").length;
    byId("count").textContent = guests === total ? `${total} ${total === 1 ? "guest" : "guests"}` : `${guests} of ${total} guests`;
    byId("none").hidden = state.groups.some((g) => g.kind !== "record");
    for (const e of shown.values()) e.remove();
    shown.clear();
    select(-1);
    measure();
    draw();
  }

  function measure() {
    const head = byId("head"), style = getComputedStyle(head);
    state.width = state.printing ? paper : Math.max(head.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight), 50);
    head.dataset.left = parseFloat(style.paddingLeft) - 4;
    for (const [i, e] of shown) fill(e, state.rows[i]);
  }

  let asked = 0;
  function draw() {
    if (!asked) asked = requestAnimationFrame(() => { asked = 0; drawNow(); });
  }
  function drawNow() {
    state.ticks = ticks();
    drawAxis(state.ticks);
    drawWindow();
    for (const [i, e] of shown) fill(e, state.rows[i]);
    place();
    if (state.mark && !tip.hidden) tellChosen();
  }

  // place keeps the lanes in view as elements, and no others.
  function place() {
    const all = state.printing && state.rows.length <= printed;
    const top = lanes.getBoundingClientRect().top;
    const from = all ? 0 : -top - 300, to = all ? state.height : window.innerHeight - top + 300;
    let first = 0, last = state.rows.length;
    while (first < last) { // the first row that ends after from
      const middle = (first + last) >> 1;
      if (state.rows[middle].y + state.rows[middle].height < from) first = middle + 1; else last = middle;
    }
    for (last = first; last < state.rows.length && state.rows[last].y < to;) last++;
    for (const [i, e] of shown) {
      if ((i < first || i >= last) && i !== state.current) { e.remove(); shown.delete(i); }
    }
    for (let i = first; i < last; i++) {
      if (!shown.has(i)) {
        const e = rowElement(state.rows[i], i);
        shown.set(i, e);
        lanes.append(e);
      }
    }
  }

  function rowElement(row, i) {
    const e = box(`lane ${row.kind}${row.first && i ? " first" : ""}${i === state.current ? " current" : ""}`);
    e.id = `lane-${i}`;
    e.dataset.row = i;
    e.setAttribute("role", "option");
    e.setAttribute("aria-setsize", state.rows.length);
    e.setAttribute("aria-posinset", i + 1);
    e.setAttribute("aria-selected", i === state.current);
    e.setAttribute("aria-label", [row.lane.label, row.lane.result].filter(Boolean).join(", "));
    e.style.top = row.y + "px";
    e.style.height = row.height + "px";
    const label = box("label", "", e);
    if (row.kind === "guest" || row.group.class && row.kind === "mapping") sign(label, row.group.class);
    const text = document.createElement("span");
    text.textContent = state.narrow || row.kind !== "disk" ? row.lane.label : ending(row.lane.label);
    label.append(text);
    const svg = el("svg", { class: "track", "aria-hidden": "true" });
    const result = box(`result ${row.lane.rclass || ""}`, row.lane.result || "");
    if (state.narrow) e.append(result, svg); else e.append(svg, result);
    fill(e, row);
    return e;
  }
  // Disks of one pool differ in their ends.
  const ending = (s) => s.length > 40 ? s.slice(0, 14) + "…" + s.slice(-24) : s;

  function sign(parent, kind) {
    if (!kind) return void box("sign", "", parent);
    const svg = el("svg", { class: `sign ${kind === "failure" ? "bad" : kind === "note" ? "dim" : "warn"}`, viewBox: "0 0 12 12", role: "img" }, parent);
    svg.setAttribute("aria-label", kind);
    if (kind === "failure") el("path", { d: "M2 2 10 10M10 2 2 10", stroke: "currentColor", "stroke-width": 2.6, "stroke-linecap": "round" }, svg);
    else if (kind === "note") el("circle", { cx: 6, cy: 6, r: 3, fill: "currentColor" }, svg);
    else el("path", { d: "M6 1 11.5 11H.5Z", fill: "currentColor" }, svg);
  }

  // fill draws a lane's track.
  function fill(e, row) {
    const svg = e.querySelector("svg.track"), height = state.narrow ? row.height - 20 : row.height, middle = height / 2;
    svg.replaceChildren();
    gapsInto(svg, height);
    for (const t of state.ticks ? state.ticks.list : []) {
      const px = Math.round(x(t)) + 0.5;
      el("line", { class: "grid", x1: px, x2: px, y1: 0, y2: height }, svg);
    }
    row.placed = cluster(row.lane.marks);
    const wide = (b) => bars[b[2]] === "early" || bars[b[2]] === "held";
    const blocks = row.lane.spans.filter(wide);
    for (const b of blocks) block(svg, b, height);
    for (const b of row.lane.spans) if (!wide(b)) bar(svg, b, middle);
    for (const b of blocks) blockText(svg, b, middle, row.placed);
    for (const p of row.placed) markInto(svg, p, middle, row === state.rows[state.current] && p.with.includes(state.mark));
  }

  // extent is where a bar is drawn, null where it is out of view.
  function extent([from, to]) {
    if (to < state.view[0] || from > state.view[1]) return null;
    const a = clamp(x(from), -20, state.width + 20), b = clamp(x(to), -20, state.width + 20);
    return { a, b, width: Math.max(b - a, 1) };
  }
  function bar(svg, b, middle) {
    const e = extent(b), name = bars[b[2]];
    if (!e) return;
    if (name === "ready" || name === "run") el("rect", { class: `b-${name}`, x: e.a, y: middle - 4, width: e.width, height: 8, rx: 2 }, svg);
    else el("line", { class: `b-${name}`, x1: e.a, x2: e.b, y1: middle, y2: middle }, svg);
  }
  function block(svg, b, height) {
    const e = extent(b);
    if (e) el("rect", { class: `b-${bars[b[2]]}`, x: e.a, y: 4, width: e.width, height: height - 8, rx: 3 }, svg);
  }
  // A block says what it is, in the widest room that the marks on it leave.
  function blockText(svg, b, middle, placed) {
    const e = extent(b), name = bars[b[2]];
    if (!e) return;
    const left = Math.max(e.a, 0), right = Math.min(e.b, state.width);
    const edges = [left, ...placed.map((p) => p.px).filter((px) => px > left && px < right), right];
    let room = 0, at = 0;
    for (let i = 1; i < edges.length; i++) {
      if (edges[i] - edges[i - 1] > room) { room = edges[i] - edges[i - 1]; at = (edges[i] + edges[i - 1]) / 2; }
    }
    const full = name === "held" ? "held " + duration(b[1] - b[0]) : data.texts[b[3]];
    const text = [full, full.replace(/ too early$/, "")].find((t) => t.length * 6.8 < room - 26);
    if (text) el("text", { class: `${name}-text`, x: at, y: middle }, svg).textContent = text;
  }

  // cluster decides which marks are drawn, and which of them stand for others
  // that are too near; in the order of time.
  function cluster(list) {
    const seen = [], drawn = [];
    for (const m of list) {
      if (m[0] < state.view[0] || m[0] - m[1] > state.view[1]) continue;
      seen.push({ px: x(m[0]), m, kind: marks[m[2]], with: [m] });
    }
    seen.sort((a, b) => rank[b.kind] - rank[a.kind]);
    for (const p of seen) {
      const near = drawn.find((o) => Math.abs(o.px - p.px) < (rank[p.kind] === 0 ? 4 : apart));
      if (near) near.with.push(p.m); else drawn.push(p);
    }
    for (const p of drawn) p.with.sort((a, b) => a[0] - b[0]);
    return drawn.sort((a, b) => a.px - b.px);
  }

  function markInto(svg, p, middle, at) {
    const g = el("g", { class: `m m-${p.kind}${at ? " at" : ""}`, transform: `translate(${p.px.toFixed(1)} ${middle})` }, svg);
    const window = p.m[1] / span() * state.width;
    if (window > 8 && rank[p.kind]) {
      el("path", { class: "window", d: `M${-Math.min(window, p.px + 20)} 0H-6M${-window} -4V4`, fill: "none" }, g);
    }
    shape(g, p.kind);
    el("circle", { class: "ring", r: 9 }, g);
  }

  const pies = { created: 0, loaded: 1, live: 2, linked: 3, ready: 4 };
  function shape(g, kind) {
    if (kind in pies) {
      const n = pies[kind], r = 5;
      el("circle", { class: "disc", r }, g);
      if (n === 4) el("circle", { class: "fill", r }, g);
      else if (n) el("path", { class: "fill", d: `M0 0V${-r}A${r} ${r} 0 ${n > 2 ? 1 : 0} 1 ${[0, r, 0, -r][n]} ${[-r, 0, r, 0][n]}Z` }, g);
      return;
    }
    const ink = {
      failed: "M-4.2 -4.2 4.2 4.2M4.2 -4.2 -4.2 4.2", opened: "M-4.5 .5-1 4 5-4", exit: "M0 -7V7M-4 -7H0M-4 7H0",
      crash: "M0 -7V7M-4 -7H0M-4 7H0", found: "M-1 -4-5 0-1 4M5 -4 1 0 5 4",
    }[kind];
    if (ink) {
      el("path", { class: "halo", d: ink }, g);
      el("path", { class: "ink", d: ink }, g);
      return;
    }
    switch (kind) {
      case "exec": el("path", { class: "fill", d: "M-4 -5.5 6 0-4 5.5Z" }, g); break;
      case "removed": case "refused":
        el("circle", { class: "disc", r: 5.5 }, g);
        el("path", { class: "ink", d: "M-2.2 -2.2 2.2 2.2M2.2 -2.2-2.2 2.2", "stroke-width": 1.6 }, g);
        break;
      case "suspended": el("path", { class: "ink", d: "M-2 -4V4M2 -4V4" }, g); break;
      case "resumed": el("path", { class: "ink", d: "M-3 -4 3 0-3 4" }, g); break;
      case "service": el("path", { class: "fill", d: "M0 -4.5 4.5 0 0 4.5-4.5 0Z" }, g); break;
      case "loss": el("path", { class: "fill", d: "M0 -6 6.5 5H-6.5Z" }, g); break;
      default: el("line", { class: "tick", y1: -6, y2: 6 }, g);
    }
  }

  // What is under the pointer, or chosen by keys.
  function tell(list, title) {
    tip.replaceChildren();
    if (title) {
      const e = box("entry", "", tip);
      const [head, ...rest] = title.split("\n");
      box("head", head, e);
      for (const line of rest) box("line", line, e);
    }
    for (const m of list.slice(0, 8)) {
      const e = box("entry", "", tip);
      const [head, ...rest] = data.texts[m[4]].split("\n");
      box("head", head || marks[m[2]], e);
      box("when", when(m), e);
      for (const line of rest) box("line", line, e);
    }
    if (list.length > 8) box("entry when", `and ${list.length - 8} more here: zoom in`, tip);
  }
  function when(m) {
    const parts = [seconds(m[0])];
    if (m[1] > 0) parts.push(`or up to ${duration(m[1])} before`);
    if (wall(m[0])) parts.push(wall(m[0]));
    if (m[3]) parts.push("event " + m[3]);
    return parts.join(" · ");
  }
  function tipAt(left, top, bottom) {
    tip.hidden = false;
    const r = tip.getBoundingClientRect();
    tip.style.left = clamp(left - r.width / 2, 12, Math.max(window.innerWidth - r.width - 12, 12)) + "px";
    tip.style.top = (bottom + 10 + r.height < window.innerHeight ? bottom + 10 : Math.max(top - r.height - 10, 8)) + "px";
  }
  function hideTip() { tip.hidden = true; }

  function under(event) {
    const e = event.target.closest && event.target.closest(".lane");
    if (!e) return null;
    const row = state.rows[e.dataset.row], track = e.querySelector("svg.track").getBoundingClientRect();
    return { row, index: Number(e.dataset.row), track, px: event.clientX - track.left, box: e.getBoundingClientRect() };
  }

  function hover(event) {
    const u = under(event);
    if (!u) { hideTip(); cursor.style.visibility = rule.style.visibility = "hidden"; return; }
    const inside = u.px >= 0 && u.px <= state.width && (!state.narrow || event.clientY > u.track.top);
    cursor.style.visibility = rule.style.visibility = inside ? "visible" : "hidden";
    if (inside) {
      cursor.textContent = (time(u.px) / 1e9).toFixed(Math.min(state.ticks.digits + 2, 9)) + " s";
      cursor.style.left = u.px + "px";
      rule.style.left = u.track.left - lanes.getBoundingClientRect().left + u.px + "px";
    }
    if (!inside) {
      if (!u.row.lane.title) return hideTip();
      tell([], u.row.lane.label + "\n" + u.row.lane.title);
      return tipAt(event.clientX, u.box.top, u.box.bottom);
    }
    const near = u.row.placed.filter((p) => Math.abs(p.px - u.px) < 9).sort((a, b) => Math.abs(a.px - u.px) - Math.abs(b.px - u.px))[0];
    if (near) {
      tell(near.with);
      return tipAt(u.track.left + near.px, u.track.top, u.track.bottom);
    }
    const t = time(u.px);
    const lines = u.row.lane.spans.filter((b) => b[0] <= t && t <= b[1]).map((b) =>
      [data.texts[b[3]], `${seconds(b[0], 3)} to ${b[1] >= data.to ? "the end of the record" : seconds(b[1], 3)}`].join("\n"));
    const gap = data.gaps.find((g) => g.from <= t && t <= g.to);
    if (gap) lines.push("record not complete\n" + gap.why);
    if (!lines.length) return hideTip();
    tip.replaceChildren();
    for (const text of lines) {
      const e = box("entry", "", tip), [head, ...rest] = text.split("\n");
      box("head", head, e);
      for (const line of rest) box("line", line, e);
    }
    tipAt(event.clientX, u.track.top, u.track.bottom);
  }

  // Choosing lanes and marks by keys.
  function select(index, markIndex = -1) {
    const before = shown.get(state.current);
    if (before) { before.classList.remove("current"); before.setAttribute("aria-selected", false); }
    const old = state.current;
    state.current = index;
    state.mark = null;
    if (old >= 0 && shown.has(old)) fill(shown.get(old), state.rows[old]);
    if (index < 0) { lanes.removeAttribute("aria-activedescendant"); return; }
    const row = state.rows[index];
    if (!shown.has(index)) {
      const e = rowElement(row, index);
      shown.set(index, e);
      lanes.append(e);
    }
    const e = shown.get(index);
    e.classList.add("current");
    e.setAttribute("aria-selected", true);
    fill(e, row);
    lanes.setAttribute("aria-activedescendant", e.id);
    reveal(row);
    if (markIndex < 0) { hideTip(); return; }
    const p = row.placed[markIndex];
    state.mark = p.m;
    fill(e, row);
    tellChosen();
    byId("said").textContent = p.with.map((m) => data.texts[m[4]].replaceAll("\n", ", ") + ", " + when(m)).join("; ");
  }
  // chosen is the place of the chosen mark among those drawn, -1 where it is out of
  // view. Which marks are drawn together changes with the view, the mark does not.
  const chosen = () => state.mark ? state.rows[state.current].placed.findIndex((p) => p.with.includes(state.mark)) : -1;
  function tellChosen() {
    const i = chosen(), e = shown.get(state.current);
    if (i < 0 || !e) { hideTip(); return; }
    const p = state.rows[state.current].placed[i], track = e.querySelector("svg.track").getBoundingClientRect();
    tell(p.with);
    tipAt(track.left + p.px, track.top, track.bottom);
  }
  function reveal(row) {
    const top = lanes.getBoundingClientRect().top + row.y, head = byId("head").offsetHeight + 20;
    if (top < head) window.scrollBy(0, top - head);
    else if (top + row.height > window.innerHeight - 20) window.scrollBy(0, top + row.height - window.innerHeight + 60);
  }
  const step = (by) => state.rows.length && select(clamp(state.current + by, 0, state.rows.length - 1));
  function stepMark(by) {
    if (state.current < 0) return step(1);
    const row = state.rows[state.current], at = chosen(), next = at < 0 && by < 0 ? row.placed.length - 1 : at + by;
    if (next >= 0 && next < row.placed.length) return select(state.current, next);
    // Beyond what is in view: bring the next one in.
    const out = row.lane.marks.map((m) => m[0]).filter((t) => by > 0 ? t > state.view[1] : t < state.view[0]);
    if (!out.length) return;
    const t = by > 0 ? Math.min(...out) : Math.max(...out);
    show(t - span() / 2, t + span() / 2);
    drawNow();
    select(state.current, row.placed.findIndex((p) => p.with.some((m) => m[0] === t)));
  }
  function zoomToRow() {
    if (state.current < 0) return;
    const row = state.rows[state.current], times = row.lane.marks.map((m) => m[0]).filter((t) => t <= data.view[1]);
    if (times.length) around(Math.min(...times), Math.max(...times));
  }

  const keys = {
    ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(12), PageUp: () => step(-12),
    Home: () => select(0), End: () => select(state.rows.length - 1),
    ArrowRight: (e) => e.shiftKey ? move(0.2) : stepMark(1), ArrowLeft: (e) => e.shiftKey ? move(-0.2) : stepMark(-1),
    Enter: zoomToRow, Escape: () => { select(-1); hideTip(); },
  };
  lanes.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || !keys[e.key]) return;
    e.preventDefault();
    keys[e.key](e);
  });
  const anywhere = {
    "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "0": () => show(...data.view),
    "/": () => byId("search").focus(), n: () => stepFinding(1), p: () => stepFinding(-1),
  };
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || !anywhere[e.key]) return;
    if (e.target.matches("input, textarea, select")) return;
    e.preventDefault();
    anywhere[e.key]();
  });

  // Findings and their places.
  const findings = [...document.querySelectorAll(".finding[data-kind]")];
  function goTo(finding) {
    const group = data.groups[Number(finding.dataset.group)];
    if (!group) return;
    if (!state.groups.includes(group)) {
      byId("search").value = "";
      byId("only").checked = false;
      press(new Set());
    }
    around(Number(finding.dataset.from), Number(finding.dataset.to));
    drawNow();
    const index = state.rows.findIndex((r) => r.group === group);
    byId("timeline").scrollIntoView();
    select(index);
    lanes.focus({ preventScroll: true });
    for (const f of document.querySelectorAll(".finding")) f.classList.toggle("here", f === finding);
  }
  function stepFinding(by) {
    const list = findings.filter((f) => !f.hidden);
    if (!list.length) return;
    state.finding = (state.finding + by + list.length) % list.length;
    goTo(list[state.finding]);
    byId("said").textContent = list[state.finding].querySelector(".what").textContent;
  }
  document.addEventListener("click", (e) => {
    const link = e.target.closest(".place");
    if (!link) return;
    e.preventDefault();
    const finding = link.closest(".finding");
    state.finding = findings.filter((f) => !f.hidden).indexOf(finding);
    goTo(finding);
  });
  function press(kinds) {
    state.kinds = kinds;
    for (const c of document.querySelectorAll(".chip")) c.setAttribute("aria-pressed", kinds.has(c.dataset.kind));
    for (const f of findings) f.hidden = kinds.size > 0 && !kinds.has(f.dataset.kind);
    choose();
  }
  for (const chip of document.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      const kinds = new Set(state.kinds);
      if (!kinds.delete(chip.dataset.kind)) kinds.add(chip.dataset.kind);
      for (const d of document.querySelectorAll("details.more")) d.open = d.open || kinds.size > 0;
      press(kinds);
    });
  }

  // Wheel, pinch and drag.
  lanes.addEventListener("wheel", (e) => {
    const u = under(e);
    if (e.ctrlKey || e.metaKey) {
      e.preventDefault();
      zoom(Math.exp(clamp(e.deltaY, -60, 60) * 0.008), u ? time(clamp(u.px, 0, state.width)) : undefined);
    } else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
      e.preventDefault();
      move((e.deltaX || e.deltaY) / state.width);
    }
    hideTip();
  }, { passive: false });
  const pointers = new Map();
  let pinch = 0;
  lanes.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    pointers.set(e.pointerId, e);
    pinch = 0;
  });
  lanes.addEventListener("pointermove", (e) => {
    const before = pointers.get(e.pointerId);
    if (!before) return e.pointerType === "mouse" ? hover(e) : undefined;
    if (pointers.size === 1) {
      if (!lanes.classList.contains("drag") && Math.abs(e.clientX - before.clientX) < 4) return;
      if (!lanes.classList.contains("drag")) { lanes.classList.add("drag"); lanes.setPointerCapture(e.pointerId); }
      hideTip();
      move(-(e.clientX - before.clientX) / state.width);
    } else {
      pointers.set(e.pointerId, e);
      const [a, b] = [...pointers.values()], distance = Math.max(Math.abs(a.clientX - b.clientX), 20);
      const left = lanes.getBoundingClientRect().left + parseFloat(getComputedStyle(byId("head")).paddingLeft);
      if (pinch) zoom(pinch / distance, time((a.clientX + b.clientX) / 2 - left));
      pinch = distance;
    }
    pointers.set(e.pointerId, e);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    lanes.addEventListener(name, (e) => {
      const dragged = lanes.classList.contains("drag");
      pointers.delete(e.pointerId);
      pinch = 0;
      lanes.classList.remove("drag");
      const u = under(e);
      if (name === "pointerup" && !dragged && u) {
        select(u.index);
        hover(e);
      }
    });
  }
  lanes.addEventListener("pointerleave", (e) => { if (!pointers.size) hover({ target: document.body }); });
  lanes.addEventListener("blur", hideTip);

  const overview = byId("overview");
  overview.addEventListener("pointerdown", (e) => {
    const r = overview.getBoundingClientRect(), at = (ev) => data.from + clamp((ev.clientX - r.left) / r.width, 0, 1) * (data.to - data.from);
    const start = at(e);
    overview.setPointerCapture(e.pointerId);
    const moved = (ev) => { if (Math.abs(ev.clientX - e.clientX) > 3) show(Math.min(start, at(ev)), Math.max(start, at(ev))); };
    overview.addEventListener("pointermove", moved);
    overview.addEventListener("pointerup", (ev) => {
      overview.removeEventListener("pointermove", moved);
      if (Math.abs(ev.clientX - e.clientX) <= 3) show(start - span() / 2, start + span() / 2);
    }, { once: true });
  });

  // Controls.
  byId("in").onclick = () => zoom(0.6);
  byId("out").onclick = () => zoom(1 / 0.6);
  byId("fit").onclick = () => show(...data.view);
  byId("all").onclick = () => show(data.from, data.to);
  byId("search").oninput = byId("only").onchange = byId("private").onchange = choose;
  byId("search").onkeydown = (e) => {
    if (e.key === "Escape") { e.target.value = ""; choose(); lanes.focus(); }
    if (e.key === "Enter" || e.key === "ArrowDown") { e.preventDefault(); lanes.focus(); select(Math.min(1, state.rows.length - 1)); }
  };
  const theme = byId("theme"), themes = ["", "light", "dark"], themeNames = ["Theme: system", "Theme: light", "Theme: dark"];
  function useTheme(i) {
    const name = themes[i];
    if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
    theme.textContent = themeNames[i];
    theme.onclick = () => useTheme((i + 1) % themes.length);
    drawOverview();
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawOverview);

  // Print all lanes, as far as that can be a document. How wide the paper is can't
  // be known here: A4 and letter have at least that.
  window.addEventListener("beforeprint", () => {
    for (const d of document.querySelectorAll("details")) d.open = true;
    state.printing = true;
    layOut();
    drawNow();
  });
  window.addEventListener("afterprint", () => { state.printing = false; layOut(); });

  function writeLegend() {
    const usedMarks = new Set(), usedBars = new Set();
    for (const g of data.groups) {
      for (const l of g.lanes) {
        for (const m of l.marks) usedMarks.add(marks[m[2]]);
        for (const b of l.spans) usedBars.add(bars[b[2]]);
      }
    }
    const add = (text, drawIt) => {
      const e = document.createElement("span"), svg = el("svg", { width: 22, height: 16, viewBox: "-11 -8 22 16", "aria-hidden": "true" });
      drawIt(svg);
      e.append(svg, text);
      byId("legend").append(e);
    };
    for (const [kind, text] of legend) {
      if (usedMarks.has(kind)) add(text, (svg) => shape(el("g", { class: `m m-${kind}` }, svg), kind));
    }
    for (const [kind, text] of barLegend) {
      if (!usedBars.has(kind)) continue;
      add(text, (svg) => {
        if (["pending", "live", "suspended"].includes(kind)) el("line", { class: `b-${kind}`, x1: -11, x2: 11, y1: 0, y2: 0 }, svg);
        else el("rect", { class: `b-${kind}`, x: -10, y: kind === "early" || kind === "held" ? -6 : -4, width: 20, height: kind === "early" || kind === "held" ? 12 : 8, rx: 2 }, svg);
      });
    }
    if (data.gaps.length) add("record not complete", (svg) => el("rect", { class: "gap", x: -10, y: -6, width: 20, height: 12 }, svg));
    add("when is known only to lie in this time", (svg) => el("path", { class: "window", d: "M-9 0H6M-9 -4V4", fill: "none" }, svg));
  }

  const rule = box("", "");
  rule.id = "rule";
  function begin() {
    const defs = el("svg", { id: "pattern", "aria-hidden": "true" });
    const hatch = el("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, el("defs", {}, defs));
    el("path", { d: "M-1 1 1-1M0 6 6 0M5 7 7 5" }, hatch);
    document.body.append(defs);
    lanes.append(rule);
    byId("tool").hidden = byId("theme").hidden = false;
    if (byId("kinds")) byId("kinds").hidden = false;
    byId("private-label").hidden = !data.groups.some((g) => g.private);
    writeLegend();
    choose();
    drawNow();
    useTheme(0);
    let width = byId("head").clientWidth;
    new ResizeObserver(() => {
      if (byId("head").clientWidth === width) return;
      width = byId("head").clientWidth;
      layOut();
      drawOverview();
    }).observe(byId("head"));
    window.addEventListener("scroll", () => { hideTip(); place(); }, { passive: true });
    window.addEventListener("resize", () => place());
    document.documentElement.dataset.drawn = String(performance.now());
  }
  begin();
})();

"use strict";
(() => {
  const find = (selector, root = document) => [...root.querySelectorAll(selector)];
  const ratio = document.getElementById("ratio"), method = document.getElementById("method");
  const other = document.getElementById("other"), total = document.getElementById("total");

  // Poles: little-endian int16 pairs in base64, in units of 1.25 / 32767.
  const decoded = new Map();
  const poles = (text) => {
    if (!decoded.has(text)) {
      const view = new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
      const at = (i) => view.getInt16(2 * i, true) * 1.25 / 32767;
      const points = Array.from({ length: view.byteLength / 4 }, (_, i) =>
        [(180 + 150 * at(2 * i)).toFixed(1), (180 - 150 * at(2 * i + 1)).toFixed(1)]);
      decoded.set(text, points);
    }
    return decoded.get(text);
  };
  const DOT = "h0", RING = "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", CROSS = "m-3.5-3.5l7 7m0-7l-7 7";
  const marks = (points, shape) => points.map(([x, y]) => `M${x} ${y}${shape}`).join("");

  const draw = (svg) => {
    const points = poles(svg.dataset.poles);
    const steps = method && svg.dataset[`steps${method.value}`];
    const stays = (_, i) => !steps || steps.charCodeAt(i) - 97 > ratio.value;
    svg.querySelector(".stays").setAttribute("d", marks(points.filter(stays), DOT));
    svg.querySelector(".left").setAttribute("d", marks(points.filter((p, i) => !stays(p, i)), RING));
    const chosen = other && svg.dataset[`other${other.value}`];
    svg.querySelector(".other").setAttribute("d", chosen ? marks(poles(chosen), CROSS) : "");
  };

  const update = () => {
    if (method) {
      let left = 0, all = 0;
      for (const cell of find("[data-counts]")) {
        const counts = JSON.parse(cell.dataset.counts)[method.value];
        const count = counts[ratio.value];
        left += count;
        all += counts[0];
        cell.querySelector("b").textContent = count;
        cell.querySelector("i").style.width = `${100 * count / Math.max(1, counts[0])}%`;
        const head = document.getElementById(cell.dataset.heads);
        if (head) head.textContent = `${count} of ${counts[0]} states`;
      }
      const asked = `${5 * ratio.value} %`;
      ratio.setAttribute("aria-valuetext", `${asked} of the states dropped`);
      total.textContent = `${asked} dropped: ${left} of ${all} states stay`;
      for (const row of find("tr[data-step]")) row.classList.toggle("now", row.dataset.step === ratio.value);
    }
    find("details.layer[open] svg[data-poles]").forEach(draw);
  };

  const limit = () => {  // not every method can drop the same share: every layer keeps a state
    const counts = document.querySelector("[data-counts]");
    if (method && counts) ratio.max = JSON.parse(counts.dataset.counts)[method.value].length - 1;
    update();
  };
  ratio?.addEventListener("input", update);
  method?.addEventListener("change", limit);
  other?.addEventListener("change", update);
  for (const layer of find("details.layer")) {
    layer.addEventListener("toggle", () => layer.open && find("svg[data-poles]", layer).forEach(draw));
  }
  for (const link of find("a[data-opens]")) {
    link.addEventListener("click", () => document.getElementById(link.dataset.opens)?.setAttribute("open", ""));
  }
  const every = document.getElementById("every");
  every?.addEventListener("click", () => {
    const open = every.getAttribute("aria-pressed") !== "true";
    every.setAttribute("aria-pressed", String(open));
    every.textContent = open ? "Close all layers" : "Open all layers";
    for (const layer of find("details.layer")) layer.open = open;
  });
  limit();
})();

"use strict";
// All latents of one SAE at once: how often each fires, against its score, drift or stability. A click picks one.
const saeOverview = (() => {
  const { number, percent, svg } = saeLatent;
  const WIDTH = 360, HEIGHT = 150, LEFT = 34, BOTTOM = 30, TOP = 8, RIGHT = 8;
  const LEAST = -5; // power of ten of the frequency at the left end; what fires less often stands there, too
  const LEAST_SPREAD = 0.05; // of all but the outermost tenths: less is a line of dots
  const AXES = {
    score: { label: "score", floor: 0.5 },
    cosine_to_start: { label: "cosine to start", floor: 0 },
    stability: { label: "stability over seeds", floor: 0 },
  };

  // What can be an axis, the most telling first: known of at least half of the latents, and not nearly the same of all.
  function axes(indexes) {
    const rows = indexes.flatMap((index) => index.rows);
    const known = (name) => rows.filter((row) => name in row).map((row) => row[name]);
    const spread = (values) => {
      const sorted = [...values].sort((one, other) => one - other), end = Math.floor(sorted.length / 10);
      return sorted[sorted.length - 1 - end] - sorted[end];
    };
    const tells = (name) => known(name).length >= rows.length / 2 && spread(known(name)) >= LEAST_SPREAD;
    return Object.keys(AXES).filter((name) => known(name).length)
      .sort((one, other) => tells(other) - tells(one))
      .map((name) => ({ name, label: AXES[name].label }));
  }

  const x = (frequency) => LEFT + (WIDTH - LEFT - RIGHT) * (1 - Math.max(LEAST, Math.log10(frequency)) / LEAST);

  function draw(rows, axis, pick) {
    const { label, floor } = AXES[axis];
    const shown = rows.filter((row) => row.frequency > 0 && axis in row);
    const low = Math.min(floor, ...shown.map((row) => row[axis]));
    const y = (value) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (1 - low);
    const told = `${shown.length} latents: ${label} against firing frequency`;
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": told });
    for (let power = LEAST; power <= 0; power++) {
      const at = x(10 ** power);
      drawing.append(svg("line", { x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM, class: "lx-grid" }));
      if (power % 2) drawing.append(svg("text", { x: at, y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, percent(10 ** power)));
    }
    const step = [0.1, 0.25, 0.5].find((width) => (1 - low) / width < 4) || 1;
    for (let value = 1; value > low - 1e-9; value -= step) {
      drawing.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value), class: "lx-grid" }));
      drawing.append(svg("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toFixed(2)))));
    }
    drawing.append(svg("text", { x: LEFT, y: HEIGHT - 3 }, `fires on →   up: ${label}`));
    const dots = new Map(shown.map((row) => {
      const words = `latent ${row.latent}: fires on ${percent(row.frequency)}, ${label} ${number(row[axis])}`;
      const score = "score" in row ? `, score ${number(row.score)}` : "";
      const at = { cx: x(row.frequency).toFixed(1), cy: y(row[axis]).toFixed(1), r: 3.5, class: "lx-dot", "data-latent": row.latent };
      const dot = svg("circle", at, svg("title", {}, axis === "score" ? words : words + score));
      // Hollow where nobody scored it, else the fuller the better its explanation.
      dot.style.fillOpacity = "score" in row ? Math.min(1, Math.max(0.15, 2 * row.score - 1)).toFixed(2) : 0;
      return [row.latent, dot];
    }));
    drawing.append(...dots.values());
    drawing.addEventListener("click", (event) => {
      const dot = event.target.closest(".lx-dot");
      if (dot) pick(Number(dot.dataset.latent));
    });
    return { drawing, dots };
  }

  // The chosen one is ringed and in front; those that the search leaves out are faint.
  function mark({ drawing, dots }, latent, matching) {
    for (const [number, dot] of dots) {
      dot.classList.toggle("lx-faint", !matching.has(number));
      dot.classList.toggle("lx-chosen", number === latent);
    }
    if (dots.has(latent)) drawing.append(dots.get(latent));
  }

  return { axes, draw, mark };
})();

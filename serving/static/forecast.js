// Draws the fan chart out of the page's own table; without it, the table is there.
(() => {
  const holder = document.querySelector("[data-fan]");
  const table = holder && document.getElementById(holder.dataset.fan);
  if (!table || !window.echarts) return;
  const readout = document.querySelector("[data-readout]");
  const rows = [...table.tBodies[0].rows].map((row) => ({
    label: row.cells[0].firstChild.textContent.trim(),
    said: [...row.cells].map((cell) => cell.textContent.trim()),
    isAhead: "ahead" in row.dataset,
    isProvisional: "provisional" in row.dataset,
    of: (name) => (name in row.dataset ? Number(row.dataset[name]) : null),
  }));
  const levels = ["q10", "q20", "q30", "q40", "q50", "q60", "q70", "q80", "q90"];
  holder.hidden = false;
  const chart = echarts.init(holder, null, { renderer: "canvas" });
  let shown = rows.findIndex((row) => row.isAhead);

  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // The last month that is over joins what came to what is expected.
  const joint = shown - 1;
  const ahead = (name) =>
    rows.map((row, n) => (n === joint ? row.of("actual") : row.isAhead ? row.of(name) : null));
  const before = (name) => rows.map((row) => (row.isAhead ? null : row.of(name)));
  const gap = (low, high) => low.map((value, n) => (value === null || high[n] === null ? null : high[n] - value));

  const stacked = (name, stack, data, color, opacity) => ({
    name, stack, data, type: "line", symbol: "none", silent: true, animation: false, stackStrategy: "all",
    lineStyle: { opacity: 0 }, areaStyle: { color, opacity },
  });
  const line = (name, data, extra) => ({ name, data, type: "line", symbol: "none", silent: true, animation: false, ...extra });

  function draw() {
    const brand = ink("--brand"), text = ink("--soft"), rule = ink("--line"), main = ink("--ink"), low = ink("--low");
    const shades = [0.14, 0.2, 0.28, 0.36, 0.36, 0.28, 0.2, 0.14];
    const bands = levels.slice(1).map((high, n) =>
      stacked(high, "fan", gap(ahead(levels[n]), ahead(high)), brand, shades[n]));
    chart.setOption({
      aria: { enabled: false },
      grid: { left: 8, right: 14, top: 14, bottom: 4, containLabel: true },
      xAxis: {
        type: "category", boundaryGap: false, data: rows.map((row) => row.label + (row.isProvisional ? " *" : "")),
        axisLine: { lineStyle: { color: rule } }, axisTick: { show: false },
        axisLabel: { color: text, hideOverlap: true, fontSize: 12 },
      },
      yAxis: {
        type: "value", min: 0, splitNumber: 4, axisLabel: { color: text, fontSize: 12 },
        splitLine: { lineStyle: { color: rule } },
      },
      series: [
        stacked("before", "before", before("q10"), low, 0),
        stacked("before band", "before", gap(before("q10"), before("q90")), low, 0.22),
        stacked("base", "fan", ahead("q10"), brand, 0),
        ...bands,
        line("middle before", before("q50"), { lineStyle: { color: low, width: 1.5, type: "dotted" } }),
        line("expected", ahead("q50"), { lineStyle: { color: brand, width: 2, type: "dashed" } }),
        line("actual", rows.map((row) => row.of("actual")), { lineStyle: { color: main, width: 2 } }),
        {
          name: "here", type: "line", animation: false, silent: true, data: rows.map((row, n) =>
            n === shown ? row.of("actual") ?? row.of("q50") : null),
          symbol: "circle", symbolSize: 9, showSymbol: true, itemStyle: { color: brand, borderColor: ink("--card"), borderWidth: 2 },
        },
      ],
    }, { notMerge: true });
  }

  function tell() {
    const [month, actual, expected, between] = rows[shown].said;
    const parts = [month];
    if (actual !== "–") parts.push(`${table.dataset.actual}: ${actual}`);
    if (expected !== "–") parts.push(`${table.dataset.expected}: ${expected} (${between})`);
    readout.textContent = parts.join(" · ");
  }
  function move(to) {
    const next = Math.max(0, Math.min(rows.length - 1, to));
    if (next === shown) return;
    shown = next;
    draw();
    tell();
  }

  chart.getZr().on("mousemove", (event) => {
    const [place] = chart.convertFromPixel({ gridIndex: 0 }, [event.offsetX, event.offsetY]);
    if (Number.isFinite(place)) move(Math.round(place));
  });
  holder.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -rows.length, End: rows.length }[event.key];
    if (!step) return;
    event.preventDefault();
    move(shown + step);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => chart.resize()).observe(holder);
  draw();
  tell();
})();

// What the pages need of the browser: its time zone, and charts drawn from the tables that they replace.
(() => {
  "use strict";

  // The server writes times in this zone from the next page on. The page is loaded again once, so that no time is shown
  // in another zone.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.split("; ").includes(`outcomes_zone=${zone}`)) {
    document.cookie = `outcomes_zone=${zone}; path=/console; max-age=31536000; samesite=lax`;
    const isKept = document.cookie.split("; ").includes(`outcomes_zone=${zone}`);
    if (isKept && document.documentElement.dataset.zone !== zone) location.reload();
  }

  // The demo's link carries its key behind the #, which no browser sends. Only on this machine, so that no link from
  // elsewhere signs anybody in.
  const key = document.querySelector("form[action='/console/sign-in'] input[name=key]");
  if (key && location.hash.length > 1 && ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname)) {
    key.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
    key.form.requestSubmit();
  }

  // A part that is fetched again keeps what was opened in it, and the focus.
  let opened = new Map();
  let focused = "";
  document.addEventListener("htmx:beforeSwap", (event) => {
    opened = new Map([...event.target.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
    const held = event.target.contains(document.activeElement) ? document.activeElement : null;
    focused = held ? (held.closest("[id]") || {}).id || held.getAttribute("href") || "" : "";
    if (held && held.matches("summary")) focused = held.parentElement.id;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    event.target.querySelectorAll("details[id]").forEach((each) => {
      if (opened.has(each.id)) each.open = opened.get(each.id);
    });
    if (!focused) return;
    const found = [...event.target.querySelectorAll("[id], a[href]")]
      .find((each) => each.id === focused || each.getAttribute("href") === focused);
    if (found) (found.matches("details") ? found.querySelector("summary") : found).focus({ preventScroll: true });
  });

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A table with data-chart becomes a chart: the first column holds times (data-time, in seconds), the others numbers.
  const draw = (table) => {
    const rows = [...table.tBodies[0].rows];
    if (!window.uPlot || rows.length < 2) return;
    const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
    const times = rows.map((row) => Number(row.cells[0].dataset.time));
    const numbers = names.map((_, index) =>
      rows.map((row) => {
        const text = row.cells[index + 1].dataset.value;
        return text === "" ? null : Number(text);
      }));
    const box = document.createElement("div");
    box.className = "chart";
    box.setAttribute("aria-hidden", "true");
    const written = table.closest(".chart-data");
    written.before(box);
    const strokes = [color("--line-strong"), color("--accent"), color("--warn")];
    const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    // In the order of uPlot's axes: step in seconds, its format, and what is added when the year, the day … changes.
    const hours = ["\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1];
    const values = [
      [31536000, "{YYYY}", null, null, null, null, null, null, 1],
      [2419200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
      [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
      [3600, "{HH}:00", ...hours],
      [60, "{HH}:{mm}", ...hours],
    ];
    const tzDate = (seconds) => uPlot.tzDate(new Date(seconds * 1000), document.documentElement.dataset.zone);
    const chart = new uPlot({
      width: box.clientWidth, height: 220, tzDate,
      series: [{ label: "Time", value: "{D} {MMM}, {HH}:{mm}" }, ...names.map((label, index) => ({
        label, stroke: strokes[index], width: 2, dash: index === 2 ? [6, 4] : undefined, points: { show: rows.length < 60 },
      }))],
      axes: [{ ...axis, values }, { ...axis, size: 56 }],
    }, [times, ...numbers], box);
    written.classList.replace("scroll", "visually-hidden");
    written.removeAttribute("tabindex");
    new ResizeObserver(() => chart.setSize({ width: box.clientWidth, height: 220 })).observe(box);
  };
  const drawAll = (root) => root.querySelectorAll(".chart-data:not(.visually-hidden) > table[data-chart]").forEach(draw);
  document.addEventListener("DOMContentLoaded", () => drawAll(document));
  document.addEventListener("htmx:afterSwap", (event) => drawAll(event.target));

  // A slider over a batch's life, in seconds, sets the day and time beside it, and says them while it moves. Without this
  // script there is the field alone.
  const inZone = (options) => new Intl.DateTimeFormat(options.locale, { timeZone: document.documentElement.dataset.zone, ...options });
  const offerSlider = (form) => {
    const [from, to] = form.dataset.life.split(" ").map(Number);
    const field = form.elements.as_of;
    const slider = form.querySelector("input[type=range]");
    const written = inZone({ locale: "sv-SE", dateStyle: "short", timeStyle: "short" });
    const spoken = inZone({ locale: "en-GB", weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
    const step = Math.max(60, Math.ceil((to - from) / 1000 / 60) * 60);
    const say = () => {
      const isNow = Number(slider.value) + step > to;
      const moment = new Date(Number(slider.value) * 1000);
      const text = isNow ? "now" : spoken.format(moment);
      slider.setAttribute("aria-valuetext", text);
      form.querySelector("output").value = text;
      return isNow ? "" : written.format(moment).replace(" ", "T");
    };
    Object.assign(slider, { min: from, max: to, step });
    const shown = form.querySelector("h2 time");
    slider.value = shown ? Date.parse(shown.dateTime) / 1000 : to;
    say();
    slider.addEventListener("input", () => { field.value = say(); });
    slider.parentElement.hidden = false;
  };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("form[data-life]").forEach(offerSlider));

  // A form with data-auto is sent when one of its choices changes.
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form && event.target.matches("select, input[type=checkbox], input[type=date]")) form.requestSubmit();
  });

  // An answer that says what went wrong is shown where the page says so.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status >= 400 && event.detail.xhr.status < 500) event.detail.shouldSwap = true;
  });
})();

"use strict";
(() => {
  const THEMES = {
    light: {
      paper: "#ffffff", ink: "#1c2430", muted: "#5d6878", line: "#e3e7ed",
      colours: ["#0072b2", "#d55e00", "#008f68", "#b8559a", "#a87b00", "#3f9bd6", "#7f4f24", "#5b6470"],
      matrix: [[0, "#f6f8fb"], [0.5, "#7fb2d9"], [1, "#00528a"]],
      diverging: [[0, "#b85a00"], [0.5, "#f7f7f7"], [1, "#005a9c"]],
    },
    dark: {
      paper: "#12161d", ink: "#e6eaf0", muted: "#9aa6b5", line: "#2b333f",
      colours: ["#4da9e8", "#ff8a4c", "#2fcb9b", "#e39ac9", "#e0b53c", "#8ccbf2", "#c99872", "#a7b0bc"],
      matrix: [[0, "#171c24"], [0.5, "#2b6796"], [1, "#8ccbf2"]],
      diverging: [[0, "#ff9a4c"], [0.5, "#1d232c"], [1, "#5cb8ff"]],
    },
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const FONT = getComputedStyle(document.body).fontFamily;
  let printed = false;

  const theme = () => THEMES[dark.matches && !printed ? "dark" : "light"];

  // A figure names its colours: $1 to $8, $ink, $muted; here they become those of the theme.
  const NAMED = {
    $ink: (t) => t.ink, $line: (t) => t.line, $muted: (t) => t.muted, $matrix: (t) => t.matrix, $diverging: (t) => t.diverging,
    $sequential: () => "Cividis",
  };
  function coloured(value, t) {
    if (typeof value === "string" && value[0] === "$") {
      return value in NAMED ? NAMED[value](t) : t.colours[value.slice(1) - 1] ?? value;
    }
    if (Array.isArray(value)) {
      return typeof value[0] === "number" ? value : value.map((inner) => coloured(inner, t));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, coloured(inner, t)]));
  }

  function axis(own, t, narrow) {
    const title = own.title ? { ...own.title, font: { size: narrow ? 12 : 13, color: t.muted }, standoff: 10 } : undefined;
    return {
      gridcolor: t.line, linecolor: t.line, zerolinecolor: t.line, tickcolor: t.line, automargin: true,
      tickfont: { size: narrow ? 11 : 12, color: t.ink }, fixedrange: narrow, ...own, ...(title ? { title } : {}),
    };
  }

  function draw(place, figure) {
    const t = theme(), narrow = place.clientWidth < 560;
    const own = coloured(figure, t);
    const layout = {
      ...own.layout,
      font: { family: FONT, size: 13, color: t.ink },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 8, r: narrow ? 8 : 16, t: 12, b: 8, ...own.layout.margin },
      xaxis: axis(own.layout.xaxis ?? {}, t, narrow),
      yaxis: axis(own.layout.yaxis ?? {}, t, narrow),
      dragmode: narrow ? false : "zoom",
      hoverlabel: { font: { family: FONT, size: 13 }, namelength: -1 },
      legend: { font: { size: narrow ? 11.5 : 12.5 }, ...own.layout.legend },
      colorway: t.colours,
    };
    return Plotly.react(place, own.data, layout, { displayModeBar: false, responsive: true, scrollZoom: false });
  }

  // -- figures ----------------------------------------------------------------------------------------------

  const chosen = {};  // place -> name of the figure
  const drawFigure = (id) => draw(document.getElementById(id), DATA.figures[id][chosen[id]]);
  for (const [id, figures] of Object.entries(DATA.figures)) chosen[id] = Object.keys(figures)[0];
  for (const select of document.querySelectorAll("select[data-chooses]")) {
    select.addEventListener("change", () => {
      chosen[select.dataset.chooses] = select.value;
      drawFigure(select.dataset.chooses);
    });
  }

  // -- films ------------------------------------------------------------------------------------------------

  for (const button of document.querySelectorAll(".play-all")) {
    const videos = [...document.querySelectorAll(`#${button.dataset.films} video`)];
    button.addEventListener("click", () => {
      const play = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(play));
      button.textContent = play ? "Pause all" : "Play all";
      videos.forEach((video) => (play ? video.play().catch(() => {}) : video.pause()));
    });
  }

  // Of a small film, the browser's own controls would hide half: a click or a key plays it.
  for (const video of document.querySelectorAll(".films video")) {
    video.controls = false;
    video.tabIndex = 0;
    video.setAttribute("role", "button");
    const toggle = () => (video.paused ? video.play().catch(() => {}) : video.pause());
    video.addEventListener("click", toggle);
    video.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
    const said = () => video.setAttribute("aria-pressed", String(!video.paused));
    for (const name of ["play", "pause"]) video.addEventListener(name, said);
    said();
  }

  const courses = [...document.querySelectorAll("[data-course]")].map((box) => {
    const id = box.dataset.course, films = DATA.films[id];
    const place = document.getElementById(`${id}-course`), select = box.querySelector("select");
    const video = box.querySelector("video"), sources = document.querySelectorAll(`#${id} video`);
    const current = () => films[Number(select.value)];
    const step = () => 1 + (video.duration ? video.currentTime / video.duration : 0) * (current().steps - 1);
    const show = () => {
      const film = current(), own = film.course.layout.shapes ?? [];
      const cursor = { type: "line", x0: step(), x1: step(), yref: "paper", y0: 0, y1: 1, line: { color: "$2", width: 2 } };
      place.setAttribute("aria-label", `The entries of z at each of ${film.steps} steps of ${film.title}, as a heat map`);
      return draw(place, { ...film.course, layout: { ...film.course.layout, shapes: [...own, cursor] } });
    };
    const follow = () => {
      const last = (current().course.layout.shapes ?? []).length;
      if (place.layout) Plotly.relayout(place, { [`shapes[${last}].x0`]: step(), [`shapes[${last}].x1`]: step() });
    };
    const choose = () => {
      video.src = sources[Number(select.value)].src;
      return show();
    };
    select.addEventListener("change", () => {
      choose();
      if (!still.matches) video.play().catch(() => {});
    });
    video.addEventListener("timeupdate", follow);
    video.src = sources[Number(select.value)].src;
    return () => show().then(() => {
      if (place.dataset.follows) return;
      place.dataset.follows = "yes";
      place.on("plotly_click", (event) => {
        const share = (event.points[0].x - 1) / Math.max(1, current().steps - 1);
        if (video.duration) video.currentTime = share * video.duration;
      });
    });
  });

  // -- all of them, in the colours of the theme ------------------------------------------------------------------

  const drawAll = () => Promise.all([...Object.keys(DATA.figures).map(drawFigure), ...courses.map((show) => show())]);
  dark.addEventListener("change", drawAll);
  addEventListener("beforeprint", () => { printed = true; drawAll(); });
  addEventListener("afterprint", () => { printed = false; drawAll(); });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (Math.abs(innerWidth - width) < 40) return;
    width = innerWidth;
    drawAll();
  });
  drawAll().then(() => document.documentElement.setAttribute("data-drawn", "yes"));
})();

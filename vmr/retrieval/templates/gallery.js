"use strict";
{
  const control = (name) => document.getElementById(name);
  const plain = (text) => text.normalize("NFKC").toLowerCase();
  const rows = [...document.querySelectorAll("article")].map((row, place) => ({
    row,
    place,
    way: row.dataset.way,
    rank: Number(row.dataset.rank),
    change: Number(row.dataset.change),
    hit: row.dataset.hit === "1",
    suspects: Number(row.dataset.suspects),
    id: row.querySelector(".query .id").textContent,
    sought: plain(
      [...row.querySelectorAll(".query bdi, .query .labels i")].map((part) => part.textContent).join("\n"),
    ),
  }));
  const shows = {
    all: () => true,
    hits: (item) => item.hit,
    misses: (item) => !item.hit,
    suspects: (item) => item.suspects > 0,
    wins: (item) => item.change > 0,
    losses: (item) => item.change < 0,
  };
  const byId = (one, other) => (one.id < other.id ? -1 : one.id > other.id ? 1 : one.place - other.place);
  const orders = {
    worst: (one, other) => other.rank - one.rank || one.place - other.place,
    best: (one, other) => one.rank - other.rank || one.place - other.place,
    id: byId,
  };

  function update() {
    const way = control("way").value;
    const words = plain(control("search").value).split(/\s+/).filter(Boolean);
    const ofWay = rows.filter((item) => item.way === way);
    const shown = ofWay.filter(
      (item) => shows[control("show").value](item) && words.every((word) => item.sought.includes(word)),
    );
    for (const { row } of rows) row.hidden = true;
    for (const { row } of shown) row.hidden = false;
    for (const part of document.querySelectorAll(".summary")) part.hidden = part.dataset.way !== way;
    control("rows").append(...shown.sort(orders[control("sort").value]).map(({ row }) => row));
    control("count").textContent = `${shown.length} of ${ofWay.length}`;
    for (const player of document.querySelectorAll("[hidden] audio, [hidden] video")) player.pause();
  }

  for (const name of ["way", "show", "sort"]) control(name).addEventListener("change", update);
  control("search").addEventListener("input", update);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  document.querySelector("form").hidden = false;

  // One plays at a time. Events of media do not bubble, so they are caught on their way down.
  document.addEventListener(
    "play",
    (event) => {
      for (const player of document.querySelectorAll("audio, video")) {
        if (player !== event.target) player.pause();
      }
    },
    true,
  );
  document.addEventListener(
    "error",
    (event) => {
      if (!event.target.matches("audio, video")) return;
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = "cannot be played here";
      event.target.replaceWith(note);
    },
    true,
  );
  // Controls and posters wait for their row to come near: those of thousands take seconds.
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        for (const player of target.querySelectorAll("audio, video")) {
          player.controls = true;
          // A thumbnail stands in the page once, however many players show it.
          const image = document.querySelector(`#${player.dataset.poster ?? "none"} image`);
          if (image) player.poster = image.getAttribute("href");
        }
      }
    },
    { rootMargin: "1000px" },
  );
  for (const { row } of rows) near.observe(row);
  update();
}

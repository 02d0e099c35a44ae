// The figures move by themselves, and buttons leave the visitor where they are.
// Without this script the page is the same after each reload.
"use strict";

const events = new EventSource("/events");
events.onmessage = (message) => {
  const live = JSON.parse(message.data);
  for (const at of document.querySelectorAll("[data-live]")) {
    const text = live[at.dataset.live] ?? "";
    if (at.textContent !== text) at.textContent = text;
  }
  for (const at of document.querySelectorAll("[data-state-of]")) at.dataset.state = live[at.dataset.stateOf] ?? "";
  for (const at of document.querySelectorAll("[data-points]")) at.setAttribute("points", live[at.dataset.points] ?? "");
};
addEventListener("pagehide", () => events.close());

for (const form of document.querySelectorAll("form[data-stay]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = event.submitter;
    const fields = new URLSearchParams(new FormData(form, button));
    fetch(button.getAttribute("formaction") ?? form.getAttribute("action"), { method: "POST", body: fields, redirect: "manual" });
  });
}

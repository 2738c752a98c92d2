"use strict";
// One letter presses the button or follows the link that carries it; nothing here is needed to use the pages.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && typing) typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !/^[a-z]$/.test(event.key)) return;
  const found = document.querySelector(`[data-key="${event.key}"]`);
  if (found) { event.preventDefault(); found.click(); }
});
// A second press before the answer comes does nothing.
document.addEventListener("submit", (event) => {
  setTimeout(() => event.target.querySelectorAll("button").forEach((one) => { one.disabled = true; }), 0);
});

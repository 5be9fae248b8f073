(function () {
  "use strict";
  document.querySelectorAll("img[data-copy]").forEach(function (image) {
    var first = document.getElementById(image.getAttribute("data-copy"));
    if (first) { image.src = first.src; }
  });
  var buttons = document.querySelectorAll("button[data-cell]");
  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      var cell = document.getElementById(button.getAttribute("data-cell"));
      var open = cell.hidden;
      document.querySelectorAll(".cells").forEach(function (other) { other.hidden = true; });
      buttons.forEach(function (other) { other.setAttribute("aria-expanded", "false"); });
      if (!open) { return; }
      cell.hidden = false;
      document.querySelectorAll('button[data-cell="' + cell.id + '"]').forEach(function (same) {
        same.setAttribute("aria-expanded", "true");
      });
      cell.focus();
    });
  });
  document.querySelectorAll("button[data-show]").forEach(function (button) {
    button.addEventListener("click", function () {
      var table = document.getElementById("matrix");
      table.className = "matrix names " + button.getAttribute("data-show");
      document.querySelectorAll("button[data-show]").forEach(function (other) {
        other.setAttribute("aria-pressed", String(other === button));
      });
    });
  });
})();

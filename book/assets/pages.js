/* Small help for every page, where the theme leaves a reader alone. */
"use strict";

// Opened by double click, a page may not read other pages: the search finds them from its index, and
// goes without the excerpts that it would fetch.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// What scrolls sideways must be reachable with the keyboard (axe: scrollable-region-focusable).
const SCROLLS = ".pst-scrollable-table-container, .cell_output, .genindextable, dt.sig";

function makeScrollersFocusable() {
  for (const box of document.querySelectorAll(SCROLLS)) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

window.addEventListener("load", makeScrollersFocusable);
window.addEventListener("resize", makeScrollersFocusable);

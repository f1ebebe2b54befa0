// Stands in for the theme's file of this name: 1.5 MB of icons as SVG, for pages that already show
// theirs from the theme's web fonts.

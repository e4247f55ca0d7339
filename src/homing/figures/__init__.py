"""Charts as SVG text: arrays in, a drawing and the numbers behind it out. A module a question that charts answer."""

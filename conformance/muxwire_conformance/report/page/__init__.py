"""The files of the HTML report: template, style and scripts."""

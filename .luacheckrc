std = "ngx_lua+luajit"
max_line_length = 100
codes = true
include_files = { "**/*.lua", ".luacheckrc" }
exclude_files = { "node_modules", ".deps", "build*" }
-- A result that a caller must take, but need not look at.
ignore = { "212/_.*", "213/_.*" }

-- The globals of a script inside Redis or Valkey; writing any global is an error there too.
stds.redis = {
  read_globals = { "redis", "server", "KEYS", "ARGV", "cjson", "cmsgpack", "struct", "bit" },
}
std = "lua51+redis"
max_line_length = 100
-- An included function takes its keys as parameters, by the names its includer gives them too.
ignore = { "43./.*" }

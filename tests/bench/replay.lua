-- wrk script: sends the requests in the file named by REQUESTS, one after the other: each a length in 8 digits, then
-- that many bytes of a whole HTTP request, signed beforehand so that signing costs the load generator nothing.
local file

function init(args)
  file = assert(io.open(os.getenv("REQUESTS"), "rb"))
  file:seek("set", tonumber(os.getenv("REQUESTS_FROM") or "0"))
  file:setvbuf("full", 1048576)
end

function request()
  local length = file:read(8)
  if not length then
    file:seek("set", 0)
    length = file:read(8)
  end
  return file:read(tonumber(length))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "not_2xx": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end

-- wrk: posts the first argument as JSON, and ends with one line for bench/serving/loads.py.
function init(arguments)
  wrk.method = "POST"
  wrk.body = arguments[1]
  wrk.headers["Content-Type"] = "application/json"
end

function done(summary, latency, _)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  -- Times are in microseconds.
  print(summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status, broken)
end

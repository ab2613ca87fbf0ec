-- wrk's script: prints the run's figures as one line of JSON, in microseconds.
-- First argument: 0, or how long (ms) about each connection pauses between its requests:
-- an even, low rate, in which a stall of the worker hits as many requests as users would see.
-- Second argument: how many requests a connection sends at once.
-- luacheck: globals init delay request done wrk

function init(args)
    local pause_ms, pipeline = tonumber(args[1]), tonumber(args[2])
    if pipeline > 1 then
        local all = wrk.format():rep(pipeline)
        function request()
            return all
        end
    end
    if pause_ms > 0 then
        math.randomseed(os.time())
        local random, low, high = math.random, pause_ms * 0.5, pause_ms * 1.5
        function delay()
            return random(low, high)
        end
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        'wrk-json {"requests":%d,"durationUs":%d,"p50Us":%d,"p99Us":%d,"p999Us":%d,"maxUs":%d,'
            .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        latency:percentile(99.9), latency.max,
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end

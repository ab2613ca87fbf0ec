-- Runs one phase of a chain: snapshot out, changes back, questions between.
--
-- Runs on the Lua side, in all phases; yields where the phase can. Invariants: a phase in which the
-- chain has no handler costs no call, any other one call, and one more for each round of questions;
-- all of these have one deadline together.

local again = require "resty.ts.again"
local asks = require "resty.ts.asks"
local body_state = require "resty.ts.http.body"
local chain_methods = require("resty.ts.http.chain").methods
local changes = require "resty.ts.http.changes"
local fields = require "resty.ts.http.fields"
local host = require "resty.ts.http.host"
local journal = require "resty.ts.http.journal"
local outbox = require "resty.ts.http.outbox"
local options = require "resty.ts.http.options"
local phases = require "resty.ts.http.phases"
local policy = require "resty.ts.http.policy"
local questions = require "resty.ts.http.questions"
local request = require "resty.ts.http.request"
local snapshot = require "resty.ts.http.snapshot"
local stream = require "resty.ts.http.stream"
local values = require "resty.ts.values"
local whole = require "resty.ts.http.whole"

local ngx = ngx
local pcall = pcall
local error = error
local setmetatable = setmetatable
local math_ceil = math.ceil
local math_max = math.max
local table_concat = table.concat

local ANSWER, ASK, STREAM, FAILED = changes.ANSWER, changes.ASK, changes.STREAM, changes.FAILED
local LAST, CONTINUES, CLOSED = snapshot.LAST, snapshot.CONTINUES, snapshot.CLOSED
local UNBUFFERED = snapshot.UNBUFFERED
local HEADER_FILTER, LOG = phases.header_filter, phases.log
-- The host ends a handler at the deadline, by the handler's own policy. Lua waits so much longer,
-- for what then comes (src/http/engine.ts).
local MARGIN_MS = 100
local UNCARRIED = { bad_argument = true, too_large = true }

local apply = changes.apply
local override = fields.override
local undo_all = journal.undo_all
local view = snapshot.view
-- The chunk of a body, as an argument.
local chunk_bytes = setmetatable({ "" }, values.bytes_mt)

local _M = {}


-- The version of the chain that serves this request: the one that it began with. Nil when the
-- environment does not know it.
local function version_of(chain, client)
    local state = request.peek()
    local version = state and state[chain]
    if version and version.generation == client.generation then
        return version
    end
    version = chain.version
    if version and version.generation == client.generation then
        return version
    end
    return nil
end


-- The phase's description when the chain does anything in it, the client to do it with, the
-- request's state, the token and, where there was something to wait for, the deadline; else nil,
-- and what is to be done about it is done.
local ready
function ready(phase, chain, deadline)
    local client, err, code = host.client(chain.place)
    local version = client and version_of(chain, client)
    if version then
        if version.filters_body and phase.answers then
            whole.ask(request.get())
        end
        local p = version.phases[phase.name]
        if not p then
            if version.fields and phase.answers then
                request.get()[chain] = version
            end
            return nil
        end
        local state = request.get()
        state[chain] = version
        return p, client, state, version.token, deadline
    end
    local state = request.get()
    local begun = state[chain]
    if begun and phase.sync and not begun.phases[phase.name] and not begun.filters_body then
        return nil -- no need to block until the next environment says the same
    end
    if state.failed ~= chain then
        local ok
        if chain.closed and state[chain] then
            err, code = "the chain was closed, and the environment that had it has ended", "exited"
        elseif client then
            if not deadline and not phase.sync then
                deadline = chain:deadline(client, phase, state)
            end
            ok, err, code = chain:configure(client, phase, deadline)
            if ok then
                return ready(phase, chain, deadline)
            end
        end
        state.failed, state.failed_kind = chain, options.kind(code)
        policy.log(phase, chain.title, err)
    end
    policy.unavailable(phase, chain, state)
    return nil
end


-- Takes out of ctx what cannot be carried. Returns whether there was any.
local function leave_behind(phase, p, ctx)
    return snapshot.leave_behind(ctx, function(text)
        policy.log(phase, p.plugins, text)
    end)
end


-- Calls the host's `run`. What of ngx.ctx cannot be carried stays behind.
local function run(client, phase, p, token, state, flags, timeout_ms, chunk)
    snapshot.build(phase.number, state, flags, token)
    local vars, ctx = snapshot.vars(p.vars, p.slots, state), snapshot.ctx(p.ctx, state)
    local list, err, code = host.call(client, host.run, phase.sync, timeout_ms, 4, view, vars, ctx,
                                      chunk)
    if ctx and UNCARRIED[code] and leave_behind(phase, p, ctx) then
        return host.call(client, host.run, phase.sync, timeout_ms, 4, view, vars, ctx, chunk)
    end
    return list, err, code
end


-- What a handler's failure, change 14, says.
local function let_pass(phase)
    return function(plugin, text)
        policy.log(phase, asks.plain(plugin), asks.plain(text) .. " (let pass)")
    end
end

local LET_PASS = {}
for _, phase in pairs(phases) do
    LET_PASS[phase] = let_pass(phase)
end


-- Does what ends a list of changes, except for questions.
local function finish(client, phase, p, state, what, a, b, c)
    if what == ANSWER and phase.answers then
        return state.gateway.answer(state, a, b)
    elseif what == STREAM and phase.answers then
        state.gateway.answering(state)
        return stream.send(client, a, b, c, function(err)
            policy.log(phase, p.plugins, "the answer's stream broke off: " .. err)
        end)
    elseif what == FAILED then
        policy.log(phase, asks.plain(a), asks.plain(c))
        return policy.refuse(phase, b)
    elseif what == changes.REFUSED then
        policy.log(phase, asks.plain(a), asks.plain(c), ngx.INFO)
        return policy.refuse(phase, b)
    end
    policy.log(phase, p.plugins, "protocol error: the change " .. (a or what))
    return policy.refuse(phase, 500)
end


-- What is pcalled itself never becomes a trace of its own, as that could not return.
local function guarded(state, list, on_failure)
    local what, a, b, c = apply(state, list, on_failure)
    return what, a, b, c
end


-- Applies a list of changes and does what ends it, except for questions.
-- Returns whether all went well; or a run's id, its questions and what nginx has refused, if so.
local function settle(client, phase, p, state, list)
    local ok, what, a, b, c = pcall(guarded, state, list, LET_PASS[phase])
    if not ok then
        policy.log(phase, p.plugins, "bad request or response change: " .. asks.reason(what))
        policy.refuse(phase, 500)
        return false
    end
    local refused = state.refused
    if refused then
        state.refused = nil
        if what == ASK then
            return a, b, refused.text
        end
        policy.log(phase, refused.plugin, "nginx refused a change: " .. refused.text)
        -- An answer stands.
        if not what and refused.status ~= 0 then
            policy.refuse(phase, refused.status)
            return false
        end
    end
    if not what then
        return true
    end
    if what ~= ASK or phase.sync then
        finish(client, phase, p, state, what, a, b, c)
        return false
    end
    return a, b
end


-- The call of a phase has failed: it leaves nothing behind.
local function failed(phase, p, state, err, code)
    undo_all(state)
    policy.failed(phase, p, err, code)
end


-- Answers questions, and those that come of the answers, until there are none. refused: what nginx
-- has refused, in place of replies.
-- Returns whether all went well; or nil and the failure, when the phase may run again.
local function converse(client, phase, p, state, id, asked, refused, deadline)
    while asked do
        local replies = refused or questions.answer(asked)
        local left = math_ceil(deadline - client.now_ms()) + MARGIN_MS
        if left <= 0 then
            failed(phase, p, state, "timeout: nginx had not answered the plugin in time", "timeout")
            return false
        end
        local list
        local _, err, code = host.still_has(client, id)
        if not code then
            list, err, code = host.call(client, host.resume, false, left, 2, id, replies)
        end
        if list == nil then
            if code and p.again and again.ended[code] then
                undo_all(state)
                return nil, err, code
            elseif code then
                failed(phase, p, state, err, code)
            end
            return not code
        end
        id, asked, refused = settle(client, phase, p, state, list)
    end
    return id
end


-- One call of a phase and what it brings. Returns whether all went well, false also when it has
-- ended the request; or nil, err, code when the phase may run again.
local function cross_once(client, phase, p, token, state, flags, timeout_ms, deadline, chunk)
    if not state.reported then
        outbox.report_end(client, state, false)
    end
    if state.journal then
        state.journal = nil
    end
    local margin = phase.sync and 0 or MARGIN_MS
    local list, err, code = run(client, phase, p, token, state, flags, timeout_ms + margin,
                                chunk)
    if list ~= nil then
        local ok, asked, refused = settle(client, phase, p, state, list)
        if asked then
            return converse(client, phase, p, state, ok, asked, refused, deadline)
        end
        return ok
    elseif code and p.again and again.ended[code] then
        return nil, err, code
    elseif code then
        failed(phase, p, state, err, code)
        return false
    end
    return true
end


-- The same, and again where it may be when the environment has ended. chain: nil where it may not.
-- limit: ready's deadline, or nil.
local function cross(client, phase, p, token, state, flags, chunk, chain, limit)
    local timeout_ms = p.timeout_ms
                       or client.options[phase.sync and "sync_timeout_ms" or "timeout_ms"]
    local deadline = client.now_ms() + timeout_ms
    if limit and limit < deadline then
        timeout_ms = math_max(1, math_ceil(timeout_ms - (deadline - limit)))
        deadline = limit
    end
    local ok, err, code = cross_once(client, phase, p, token, state, flags, timeout_ms, deadline,
                                     chunk)
    local tries = chain and again.most or 0
    while ok == nil and tries > 0 do
        tries = tries - 1
        local newer, _, _, its_token = ready(phase, chain, not phase.sync and deadline or nil)
        if not newer then
            return false
        end
        client.stats.repeated = client.stats.repeated + 1
        if phase.sync then
            -- What it waits for is the start of the next environment.
            deadline = client.now_ms() + timeout_ms
        end
        local left = math_ceil(deadline - client.now_ms())
        if left <= 0 then
            break
        end
        ok, err, code = cross_once(client, phase, newer, its_token, state, flags, left, deadline,
                                   chunk)
    end
    if ok == nil then
        failed(phase, p, state, err, code)
        return false
    end
    return ok
end


-- rewrite, access, before_proxy, content. chunk: bytes, for a worker's chain (http-protocol.md).
local function run_request_phase(phase, chain, chunk)
    local p, client, state, token, deadline = ready(phase, chain)
    if p then
        cross(client, phase, p, token, state, 0, chunk, chain, deadline)
    end
end


local function run_header_filter(phase, chain)
    local known = request.peek()
    if known and known.overrides then
        override(known)
    end
    local p, client, state, token = ready(phase, chain)
    client = client or host.client(chain.place)
    local version = client and version_of(chain, client)
    local filters_body = version and version.filters_body
    if filters_body then
        state = request.get()
        whole.begin(state)
    end
    -- They need no environment: the last one's are sent while the next one starts.
    local last = version or known and known[chain] or chain.version
    if last and last.fields then
        apply(request.get(), last.fields)
    end
    if p then
        cross(client, phase, p, token, state, 0, nil, chain)
    end
    if filters_body then
        -- The body is to be filtered by the version that has said so.
        state[chain] = version_of(chain, client) or version
        whole.finish(state)
    end
end


-- Has the chain filter what is in ngx.arg[1].
local function filter_piece(client, phase, p, token, state, body, piece, last, flags)
    local first = not body.started
    flags = flags + (last and LAST or 0) + (first and 0 or CONTINUES)
            + (body.closed and CLOSED or 0)
    body.started = true
    chunk_bytes[1] = piece
    -- After a failure the rest passes as it is: a filter that misses a piece makes no sense of it.
    body.off = true
    if cross(client, phase, p, token, state, flags, chunk_bytes) then
        body.off = last
    end
    if first then
        -- Of the environment that it was carried over to, perhaps.
        body.generation = client.generation
    end
end


-- The same with the pieces of a body that is longer than any plugin would have it.
local function filter_pieces(client, phase, p, token, state, body, pieces, last)
    for i = 1, #pieces do
        ngx.arg[1] = pieces[i]
        if not body.off then
            filter_piece(client, phase, p, token, state, body, pieces[i], last and i == #pieces,
                         body.started and 0 or UNBUFFERED)
        end
        pieces[i] = ngx.arg[1]
    end
    ngx.arg[1] = table_concat(pieces)
end


local function run_body_filter(phase, chain)
    if body_state.is_off(phase, chain) then
        return
    end
    local p, client, state, token = ready(phase, chain)
    if not p then
        return
    end
    local chunk, last = ngx.arg[1], ngx.arg[2]
    local body = body_state.of(phase, state, chain)
    if body.off or chunk == "" and not last then
        return
    end
    if p.buffer_bytes and not body.started then
        local pieces
        chunk, pieces = body_state.collect(p, body, chunk, last)
        if pieces then
            return filter_pieces(client, phase, p, token, state, body, pieces, last)
        elseif not chunk then
            return
        end
    end
    filter_piece(client, phase, p, token, state, body, chunk, last, 0)
end


-- What plugins have set or deleted before the response was known was sent as it came.
local function tell_not_overridden(phase, chain, state)
    local names = fields.not_overridden(state)
    state.overrides = nil
    if #names > 0 then
        policy.log(phase, chain.title, "response fields that were set or deleted before the "
                   .. "response was known are sent as they came: " .. table_concat(names, ", ")
                   .. " (run the plugin in header_filter_by_lua*, too)")
    end
end


-- An entry is lost when there is a handler for it, as far as is known, and nobody to run it.
local function drop_entry(chain)
    local state, version = request.peek(), chain.version
    if state and state.failed == chain and version and version.phases.log then
        outbox.drop(version.client, 1, chain.title .. " could not be configured")
    end
end


-- As ready. But where any version of the chain was known the worker does not block until the next
-- environment knows it, which is told of its token before it is given entries.
local function ready_to_log(phase, chain)
    local client, state = host.client(chain.place), request.peek()
    local version = state and state[chain] or chain.version
    if not version or version.client ~= client or version.generation == client.generation then
        return ready(phase, chain)
    end
    if not client.why then
        chain:configure_soon()
    end
    return version.phases[phase.name], client, request.get(), version.token
end


local function run_log(phase, chain)
    local known = request.peek()
    if known and known.overrides then
        tell_not_overridden(phase, chain, known)
    end
    local p, client, state, token = ready_to_log(phase, chain)
    if not p then
        return drop_entry(chain)
    end
    if client.why then
        outbox.drop(client, 1, "the runtime is gone")
        return
    end
    if not state.reported then
        outbox.report_end(client, state, true)
    end
    snapshot.build(phase.number, state, 0, token)
    local vars = snapshot.vars(p.vars, p.slots, state)
    local ctx = snapshot.ctx(p.ctx, state)
    if outbox.add(client, view, vars, ctx) and ctx and leave_behind(phase, p, ctx) then
        outbox.add(client, view, vars, ctx)
    end
end


local function runner_of(phase)
    if phase == HEADER_FILTER then
        return run_header_filter
    elseif phase.bodies then
        return run_body_filter
    end
    return phase == LOG and run_log or run_request_phase
end


-- run.access(chain), …: what http.access does with a chain. In a phase of nginx's that does not
-- fit it is error(). run.unchecked has the same for who knows in what phase it is.
_M.unchecked = {}
for name, phase in pairs(phases) do
    local runner, allowed = runner_of(phase), phase.allowed
    _M.unchecked[name] = function(chain, chunk)
        return runner(phase, chain, chunk)
    end
    _M[name] = function(chain)
        local current = ngx.get_phase()
        if not allowed[current] then
            error("the " .. name .. " handlers of plugins cannot be run in " .. current
                  .. "_by_lua*", 2)
        end
        return runner(phase, chain)
    end
    chain_methods[name] = _M[name]
end


return _M

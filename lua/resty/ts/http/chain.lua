-- Chains of plugins with their configurations, and the tokens by which the host knows them.
--
-- Runs on the Lua side. Invariants: a token stands for one version of one chain and is never used
-- again for another; an environment hears of it, by `configure`, before it is used there; what a
-- phase is told by (variables, deadlines, policies) is of the same version as what runs it, and one
-- version serves a request from its first phase to its last; a configuration that is given inline
-- has one chain, whatever table it comes in, for as long as it is among the 1,000 used last.

local again = require "resty.ts.again"
local blocking = require "resty.ts.blocking"
local buffers = require "resty.ts.buffers"
local encode = require "resty.ts.encode"
local failure = require "resty.ts.failure"
local ffi = require "ffi"
local flight = require "resty.ts.http.flight"
local host = require "resty.ts.http.host"
local instances = require "resty.ts.instances"
local literals = require "resty.ts.http.literals"
local options = require "resty.ts.http.options"
local outbox = require "resty.ts.http.outbox"
local snapshot = require "resty.ts.http.snapshot"
local values = require "resty.ts.values"

local ffi_str = ffi.string
local math_huge = math.huge
local math_max = math.max
local table_remove = table.remove
local error = error
local pairs = pairs
local setmetatable = setmetatable
local getmetatable = getmetatable
local type = type
local ngx = ngx

local MOST_INLINE = 1000
local KEY_BYTES = 16384
local ANSWER_MS = 1000
local EMPTY = {}

local null = values.null

local _M = {}
local methods = {}
local mt = { __index = methods }
_M.methods = methods

local tokens = 0
local inline = {}       -- key -> chain
local inline_count = 0
local clock = 0         -- of uses, for the one used least lately
local known = setmetatable({}, { __mode = "v" }) -- token -> version
local key_buffer = ffi.new("uint8_t[?]", KEY_BYTES)


-- The members' deadline together, where each has one.
local function timeout_of(members)
    local sum = 0
    for i = 1, #members do
        local given = members[i][3]
        if not given or given == null or not given.timeout_ms then
            return nil
        end
        sum = sum + given.timeout_ms
    end
    return sum
end


-- key: what has the same one is in the same instance, of several; nil: the title.
local function new(key, members, title, policies)
    return setmetatable({
        members = values.array(members),
        title = title,
        place = instances.place(key or title),
        policies = policies,
        timeout_ms = timeout_of(members),
        strict = false,     -- whether these are for all that goes wrong (policy.lua)
        token = nil,
        version = nil,      -- with this token, once the host has answered for it
        flight = nil,       -- flight.lua's: `configure` under way for the token
        closed = false,
        key = nil,          -- of an inline one
        used = 0,
    }, mt)
end


-- A chain from a list, as http.chain takes it; error() with this level.
function _M.new(list, level)
    return new(options.check_key(list, level + 1), options.check_chain(list, level + 1))
end


-- A chain of members as `configure` takes them. title, policies: as options.check_chain gives them.
function _M.of(members, title, policies)
    return new(nil, members, title, policies)
end


function _M.is(v)
    return type(v) == "table" and getmetatable(v) == mt
end


-- Has no more requests begin with the chain's version: its plugins' teardown runs once those under
-- way have ended.
local function give_back(chain)
    local token, version = chain.token, chain.version
    chain.token, chain.version, chain.flight = nil, nil, nil
    if version then
        outbox.retire(version)
    elseif token then
        local client = host.client(chain.place)
        if client then
            outbox.release(client, token)
        end
    end
end


-- Ends the chain. It cannot be used after that, but by requests that have begun with it.
function methods:close()
    if not self.closed then
        self.closed = true
        give_back(self)
    end
end


-- Ends it for requests to come, as far as anybody knows. What uses it again begins anew.
-- Returns whether it is so; false while it is being configured.
function methods:retire()
    if self.version then
        give_back(self)
    end
    return self.token == nil
end


-- Inline configurations ------------------------------------------------------------------------

-- What is encoded, as a string.
local function encoded()
    local bytes, buffer, size = encode.finish()
    local text = ffi_str(buffer or key_buffer, bytes)
    if buffer then
        buffers.give(buffer, size)
    end
    return text
end


local function key_of(name, conf, level)
    encode.begin(key_buffer, 0, KEY_BYTES)
    local what = encode.arguments(2, name, conf)
    if what then
        encode.drop()
        error("the configuration of " .. name .. ": " .. what, level + 1)
    end
    return encoded()
end


-- A configuration as it is now: Lua code may change its table.
local function frozen(conf)
    encode.begin(key_buffer, 0, KEY_BYTES)
    encode.value(conf)
    local text = encoded()
    return setmetatable({ text, #text }, values.packed_mt)
end


local function evict_one()
    local oldest
    for _, chain in pairs(inline) do
        if not oldest or chain.used < oldest.used then
            oldest = chain
        end
    end
    inline[oldest.key] = nil
    inline_count = inline_count - 1
    literals.clear()
    give_back(oldest)
end


local function add_inline(key, chain)
    if inline_count >= MOST_INLINE then
        evict_one()
    end
    chain.key = key
    inline[key] = chain
    inline_count = inline_count + 1
end


local function touch(chain)
    clock = clock + 1
    chain.used = clock
    return chain
end


-- The chain of one plugin with this configuration; nil: an empty one. Needs a client.
function _M.single(name, conf, level)
    conf = conf or EMPTY
    local chain = literals.find(name, conf)
    if chain and inline[chain.key] == chain then
        return touch(chain)
    end
    local key = key_of(name, conf, level + 1)
    chain = inline[key]
    if not chain then
        chain = new(nil, options.check_chain({ { name, conf } }, level + 1))
        chain.members[1][2] = frozen(conf)
        add_inline(key, chain)
    end
    literals.add(name, conf, chain)
    return touch(chain)
end


-- Configuring ----------------------------------------------------------------------------------

local function list_or_nil(v)
    if v == nil or v == null or #v == 0 then
        return nil
    end
    return v
end


local function number_or_nil(v)
    if v == null then
        return nil
    end
    return v
end


-- What `configure` says of a phase, with what Lua keeps for its calls.
local function prepare(described)
    local vars = list_or_nil(described.vars)
    return {
        vars = vars,
        slots = vars and snapshot.slots_for(vars),
        ctx = list_or_nil(described.ctx),
        timeout_ms = number_or_nil(described.timeout_ms),
        on_error = described.on_error,
        on_timeout = described.on_timeout,
        on_overload = described.on_overload,
        plugins = described.plugins,
        again = described.again,
        buffer_bytes = number_or_nil(described.buffer_bytes),
    }
end


-- What the client's host has said of a token: a version. generation: of the environment that knows
-- it.
local function learn(chain, client, token, generation, described)
    local phases = {}
    for name, description in pairs(described.phases) do
        if description ~= null then
            phases[name] = prepare(description)
        end
    end
    local version = known[token]
    if not version then
        version = { chain = chain, client = client, token = token, generation = nil, phases = nil,
                    fields = nil, filters_body = false, flight = nil }
        known[token] = version
    end
    version.generation, version.phases = generation, phases
    version.fields = list_or_nil(described.fields)
    version.filters_body = phases.body_filter ~= nil or phases.delayed_body_filter ~= nil
    return version
end


-- A new environment is to be told of all tokens before the calls that the one before had not begun,
-- which may have them. Each chain asks again for what there is to know of it: its files may have
-- changed.
local function replay(client, add)
    if not client.functions[host.configure.index] then
        return
    end
    for token, version in pairs(known) do
        if version.client == client then
            add(host.configure, token, version.chain.members)
        end
    end
end


-- How long `configure` may take. Node may still be starting, and `setup` may take its time: the
-- host gives it up after start_timeout_ms, and says whose it was.
local function configure_ms(client, phase)
    if not phase or not phase.sync then
        return client.options.start_timeout_ms + ANSWER_MS
    end
    return math_max(client.options.sync_timeout_ms, blocking.start_ms())
end


-- Asks the host. Returns true; or nil, err, code.
local function ask(self, client, phase, sync)
    local token = self.token
    if not token then -- closed or evicted before its flight began
        return failure("stopped", "the configuration was released meanwhile")
    end
    outbox.watch_exit(client)
    client.replay = replay
    local began = client.now_ms()
    local generation, described, err, code
    -- Once more for each environment that ends under it, which others may have brought about.
    for _ = 0, again.most do
        generation = client.generation
        described, err, code = host.call(client, host.configure, sync,
                                         configure_ms(client, phase), 2, token, self.members)
        if not again.ended[code] then
            break
        end
    end
    if err then
        return nil, err, code
    end
    if self.token ~= token then -- closed or evicted meanwhile, and released before it was known
        outbox.release(client, token)
        return failure("stopped", "the configuration was released meanwhile")
    end
    local ok, version = pcall(learn, self, client, token, generation, described)
    if not ok then
        blocking.in_vain(sync and client.now_ms() - began or 0)
        client:broken("a configuration has an answer that describes no chain: " .. version)
        return failure("protocol", "the host's answer describes no chain")
    end
    self.version = version
    blocking.started()
    return true
end


-- Until when a request may wait for what it has of this chain in a phase.
function methods:deadline(client, phase, state)
    local version = state[self] or self.version
    local p = version and version.phases[phase.name]
    return client.now_ms() + (p and p.timeout_ms or self.timeout_ms or client.options.timeout_ms)
end


-- Takes a token for the chain, unless it has one.
local function begin(self)
    if self.closed then
        error("this chain was closed", 5)
    end
    if self.key and inline[self.key] ~= self then
        -- It fell out while a request still had it.
        if inline[self.key] then
            inline_count = inline_count - 1
            give_back(inline[self.key])
        end
        add_inline(self.key, self)
    end
    if not self.token then
        tokens = tokens + 1
        self.token = tokens
    end
end


-- Has the client's environment know this chain. phase: that it is needed in.
-- Of requests that come while the host is asked, each would ask the same: they wait for its answer,
-- each until its own deadline, and it goes on without them.
-- Returns true; or nil, err, code.
function methods:configure(client, phase, deadline)
    begin(self)
    if phase.sync then
        return ask(self, client, phase, true)
    end
    if client.why and not client:try_again() then
        return failure(client.why.code, client.why.text)
    end
    local landed, ok, err, code = flight.share(self, client, host.configure, deadline, ask, self,
                                               client, phase, false)
    if not landed then
        return failure("timeout", "the plugins were not set up within the request's deadline")
    end
    return ok, err, code
end


-- Has requests that begin from now on served by the newer plugins that a reload has made ready.
-- Those under way keep the version that they began with.
local function renew(self, client, old)
    tokens = tokens + 1
    local token, generation = tokens, client.generation
    local timeout_ms = client.options.start_timeout_ms
    local described, err = host.call(client, host.configure, false, timeout_ms, 3, token,
                                     self.members, old.token)
    if described ~= nil and self.version == old then
        self.token = token
        self.version = learn(self, client, token, generation, described)
        outbox.retire(old)
        return
    end
    outbox.release(client, token) -- the chain was closed or evicted or the answer was late
    if described == nil and client.generation == generation then
        client:on_log(1, self.title .. " keeps the version before the reload: " .. err)
    end
end


-- The same for the chains of these tokens, which the environment of this generation has told.
function _M.renew(client, generation, renewed)
    for i = 1, #renewed do
        local version = known[renewed[i]]
        if client.generation ~= generation then
            return -- the next one has loaded all anew
        end
        if version and version.chain.version == version then
            -- Another reload may be at it.
            flight.share(version, client, host.configure, math_huge, renew, version.chain, client,
                         version)
        end
    end
end


-- Thousands of routes at once would be more than may be pending.
local AHEAD_AT_ONCE = 64

local ask_next


-- Asks the host before a request does; a failure is in the log, and comes again.
local function ask_ahead(self, client, chains)
    local ok, err, code = ask(self, client, nil, false)
    if not ok then
        client:on_log(1, self.title .. ": " .. err)
    end
    ask_next(chains)
    return ok, err, code
end


-- Asks for the next of the chains that the host does not know, and that no request has asked for.
function ask_next(chains)
    while #chains > 0 do
        local chain = table_remove(chains)
        local client = host.client(chain.place)
        if client and not chain.closed and not chain.flight
           and not (chain.version and chain.version.generation == client.generation)
        then
            begin(chain)
            flight.begin(chain, client, ask_ahead, chain, client, chains)
            return
        end
    end
end


local soon = {}


local function configure_all(premature)
    local chains = soon
    soon = {}
    for _ = 1, premature and 0 or AHEAD_AT_ONCE do
        ask_next(chains)
    end
end


-- Configures ahead of the next request, once this phase is over: ts.start may come later in it.
function methods:configure_soon()
    if self.flight then
        return
    end
    soon[#soon + 1] = self
    if #soon == 1 then
        ngx.timer.at(0, configure_all)
    end
end


return _M

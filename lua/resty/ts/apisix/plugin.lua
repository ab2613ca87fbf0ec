-- A TypeScript plugin as one of Apache APISIX's own: what `resty-ts apisix generate` writes a file
-- for, which says what the plugin is without Node.
--
-- Runs on the Lua side; check_schema also where there is no Node: in the control plane, the
-- privileged agent and APISIX's command line. Invariant: the runtime is started by init alone.

local auth = require "resty.ts.apisix.auth"
local contexts = require "resty.ts.apisix.contexts"
local core = require "apisix.core"
local phases = require "resty.ts.apisix.phases"
local values = require "resty.ts.values"

local error = error
local ipairs = ipairs
local tostring = tostring
local type = type

local CLOSED = require("resty.ts.http.options").CLOSED

local null = values.null
-- What APISIX has in an item of plugin metadata for itself, unless the plugin's schema has it, too.
local OF_ITEMS = { "id", "create_time", "update_time" }

local _M = {}


local function decoded(spec, field)
    local text = spec[field]
    if text == nil then
        return nil
    end
    local schema, err = core.json.decode(text)
    if type(schema) ~= "table" then
        error("the " .. field .. " of plugin " .. spec.name .. " is no JSON Schema: "
              .. tostring(err), 3)
    end
    return schema
end


-- Policies of its own are the TypeScript plugin's; these are for when nobody can ask it.
local function policies()
    return CLOSED
end


-- Lets APISIX's own fields pass the schema, as APISIX checks the item as a whole. Returns them.
local function add_item_fields(metadata_schema)
    local properties = metadata_schema and metadata_schema.properties or {}
    local added = {}
    for _, name in ipairs(OF_ITEMS) do
        if properties[name] == nil then
            properties[name] = {}
            added[#added + 1] = name
        end
    end
    return added
end


-- What the phases need to know of the plugin. item_fields: of its metadata, what is APISIX's.
local function new_runner(spec, item_fields)
    local runner = {
        name = spec.name,
        auth = spec.type == "auth",
        strict = false,
        index = contexts.new_index(),
        policies = policies,
        title = function()
            return spec.name
        end,
        members = function(own, metadata)
            local options = null
            if metadata ~= null then
                metadata = contexts.own(metadata)
                for _, name in ipairs(item_fields) do
                    metadata[name] = nil
                end
                options = { metadata = metadata }
            end
            return { values.array { spec.plugin, own, options } }
        end,
    }
    if spec.metadata_schema then
        local plugin = require "apisix.plugin"
        runner.metadata = function()
            local metadata = plugin.plugin_metadata(spec.name)
            return metadata and metadata.value
        end
    end
    for _, name in ipairs(spec.phases) do
        -- Where the plugin's own filter is there to send it.
        runner.replaces = runner.replaces or name == "body_filter"
    end
    return runner
end


local function add_phases(object, spec, item_fields)
    local runner = new_runner(spec, item_fields)
    -- APISIX has no content phase: what answers does so in access.
    local runs = spec.content and { "access", "content" }
    for _, name in ipairs(spec.phases) do
        if not phases.names[name] then
            error("plugin " .. spec.name .. ": APISIX has no phase " .. tostring(name), 3)
        end
        phases.add(object, runner, name, name == "access" and runs or nil)
    end
    phases.complete(object, runner)
    if runner.auth and not object.rewrite then
        object.rewrite = auth.beginning(spec.name)
    end
end


local function check_schema(object)
    local by_type = {
        [core.schema.TYPE_CONSUMER] = object.consumer_schema,
        [core.schema.TYPE_METADATA] = object.metadata_schema,
    }
    return function(conf, schema_type)
        return core.schema.check(schema_type and by_type[schema_type] or object.schema, conf)
    end
end


local function add_routes(object, spec)
    local worker = require "resty.ts.apisix.worker"
    local of = worker.new(spec)
    object.init, object.destroy = of.init, of.destroy
    object.api = spec.api and function()
        return of.routes("api", spec.api)
    end
    object.control_api = spec.control_api and function()
        return of.routes("control", spec.control_api)
    end
end


-- What the plugin's file returns to APISIX. spec: docs/apisix/generate.md.
function _M.new(spec)
    local object = {
        version = spec.version,
        priority = spec.priority,
        name = spec.name,
        type = spec.type,
        run_policy = spec.run_policy,
        schema = decoded(spec, "schema"),
        consumer_schema = decoded(spec, "consumer_schema"),
        metadata_schema = decoded(spec, "metadata_schema"),
    }
    local item_fields = add_item_fields(object.metadata_schema)
    object.check_schema = check_schema(object)
    add_phases(object, spec, item_fields)
    add_routes(object, spec)
    return object
end


return _M

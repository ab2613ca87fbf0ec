-- What a chain that filters bodies needs of requests and responses around it: a body that is whole
-- and plain, and fields that fit what becomes of it (docs/plugins.md, "The response").
--
-- Runs on the Lua side, in all phases but log; nothing here yields. Invariant: no client chooses,
-- by a Range or a coding, to get a body past its filters.

local fields = require "resty.ts.http.fields"

local ngx = ngx
local ngx_req = ngx.req
local type = type
local sub = string.sub

local note_coding, remove_response = fields.note_coding, fields.remove_response

local PARTIAL = 206
-- Of the body as the upstream has sent it.
local DIGESTS = { "Content-MD5", "Digest", "Content-Digest", "Repr-Digest" }

local _M = {}


-- Before the upstream: it is asked for all of the body, in no coding. Subrequests of nginx share
-- the request's fields with it.
function _M.ask(state)
    if state.asked_whole or ngx.is_subrequest then
        return
    end
    state.asked_whole = true
    local var, set = ngx.var, state.gateway.set_request_header
    local coding = var.http_accept_encoding
    if coding then
        state.accept_encoding = coding
        set(state, "Accept-Encoding", nil)
    end
    if var.http_range then
        set(state, "Range", nil)
        set(state, "If-Range", nil)
    end
end


-- In header_filter, before the plugins' handlers.
function _M.begin(state)
    local coding = state.accept_encoding
    if coding then
        -- nginx itself may compress what the filters have made.
        state.accept_encoding = nil
        ngx_req.set_header("Accept-Encoding", coding)
    end
    local header = ngx.header
    state.coding = header["Content-Encoding"]
    state.partial = ngx.status == PARTIAL
    if state.partial then
        return
    end
    remove_response("Accept-Ranges")
    for i = 1, #DIGESTS do
        remove_response(DIGESTS[i])
    end
    local etag = header["ETag"]
    if type(etag) == "string" and sub(etag, 1, 2) ~= "W/" then
        -- What is no entity-tag cannot be made a weak one; so nginx's gzip does it.
        header["ETag"] = sub(etag, 1, 1) == '"' and "W/" .. etag or nil
    end
end


-- In header_filter, after them.
function _M.finish(state)
    local header = ngx.header
    state.recoded = state.recoded or header["Content-Encoding"] ~= state.coding
    note_coding(state)
    if not state.partial then
        header["Content-Length"] = nil
    end
end


-- Whether the response's body must not pass as it came when a filter has failed: it is a part,
-- which the filter cannot have seen through, or its field says another coding by now.
function _M.is_closed(state)
    return state.recoded or state.partial or ngx.status == PARTIAL
end


return _M

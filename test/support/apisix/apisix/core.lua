-- A stand-in for APISIX's apisix.core: the parts that plugins touch, as they were seen to behave in
-- APISIX 3.18. Runs in nginx's workers, in tests alone. (APISIX also runs it in the privileged
-- agent, which is OpenResty's: nginx as Debian has it has none.)
--
-- What must stay true: names, arguments, results and messages are APISIX's, so a plugin that works
-- here does nothing that it could not do there. What is not here, a plugin must not use.
return {
    version = { VERSION = "3.18.0" },
    log = require "apisix.core.log",
    config = require "apisix.core.config",
    json = require "apisix.core.json",
    table = require "apisix.core.table",
    string = require "apisix.core.string",
    schema = require "apisix.core.schema",
    request = require "apisix.core.request",
    response = require "apisix.core.response",
    ctx = require "apisix.core.ctx",
    lrucache = require "apisix.core.lrucache",
    timer = require "apisix.core.timer",
    tablepool = require "stand_in.tablepool",
    sleep = ngx.sleep,
}

-- nginx's phases, as plugins have them: their numbers in the head, and what is legal in each.
--
-- Runs on the Lua side. No code here.

-- number: in the head. sync: it cannot yield. answers: the client can still be answered.
-- bodies: the field of a request's state with its bodies that are under way (body.lua).
-- allowed: what ngx.get_phase() may say when a plugin's phase is run.
return {
    rewrite = {
        name = "rewrite", number = 1, sync = false, answers = true,
        allowed = { rewrite = true, server_rewrite = true, access = true },
    },
    access = {
        name = "access", number = 2, sync = false, answers = true,
        allowed = { access = true, rewrite = true },
    },
    content = {
        name = "content", number = 3, sync = false, answers = true,
        allowed = { content = true },
    },
    header_filter = {
        name = "header_filter", number = 4, sync = true, answers = false,
        allowed = { header_filter = true },
    },
    body_filter = {
        name = "body_filter", number = 5, sync = true, answers = false, bodies = "bodies",
        allowed = { body_filter = true },
    },
    log = {
        name = "log", number = 6, sync = true, answers = false,
        allowed = { log = true },
    },
    before_proxy = {
        name = "before_proxy", number = 7, sync = false, answers = true,
        allowed = { access = true, rewrite = true },
    },
    delayed_body_filter = {
        name = "delayed_body_filter", number = 8, sync = true, answers = false,
        bodies = "delayed_bodies", allowed = { body_filter = true },
    },
}

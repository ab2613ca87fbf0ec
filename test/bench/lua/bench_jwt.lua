-- HS256 in Lua as a gateway's author would write it for speed: libcrypto by FFI, a context that is
-- keyed once and reset for each token, no closure and no table but the decoded claims.
-- Runs in the worker's thread; the context is shared, as no function here yields.

local ffi = require "ffi"
local cjson = require "cjson.safe"
local decode_base64url = require "ngx.base64".decode_base64url

local byte, find, sub = string.byte, string.find, string.sub
local decode_json = cjson.decode

ffi.cdef [[
typedef struct hmac_ctx_st HMAC_CTX;
typedef struct evp_md_st EVP_MD;
const EVP_MD *EVP_sha256(void);
HMAC_CTX *HMAC_CTX_new(void);
void HMAC_CTX_free(HMAC_CTX *ctx);
int HMAC_Init_ex(HMAC_CTX *ctx, const void *key, int len, const EVP_MD *md, void *engine);
int HMAC_Update(HMAC_CTX *ctx, const unsigned char *data, size_t len);
int HMAC_Final(HMAC_CTX *ctx, unsigned char *md, unsigned int *len);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]

local crypto = ffi.load "libcrypto.so.3"
local DIGEST_BYTES = 32
local DOT = byte(".")
local digest = ffi.new("unsigned char[?]", DIGEST_BYTES)

local _M = {}

-- Takes the secret, returns what verify wants.
function _M.key(secret)
    local context = ffi.gc(crypto.HMAC_CTX_new(), crypto.HMAC_CTX_free)
    assert(crypto.HMAC_Init_ex(context, secret, #secret, crypto.EVP_sha256(), nil) == 1)
    return context
end

local function signature_is_right(context, token, length, signature)
    return #signature == DIGEST_BYTES
        -- No key: the same again.
        and crypto.HMAC_Init_ex(context, nil, 0, nil, nil) == 1
        and crypto.HMAC_Update(context, token, length) == 1
        and crypto.HMAC_Final(context, digest, nil) == 1
        and crypto.CRYPTO_memcmp(digest, signature, DIGEST_BYTES) == 0
end

-- The value of the field Authorization to the subject of the token in it; nil when it is not good.
function _M.subject(context, authorization, now)
    if not authorization or sub(authorization, 1, 7) ~= "Bearer " then
        return nil
    end
    local token = sub(authorization, 8)
    local first = find(token, ".", 1, true)
    local second = first and find(token, ".", first + 1, true)
    if not second or byte(token, -1) == DOT then
        return nil
    end
    local signature = decode_base64url(sub(token, second + 1))
    if not signature or not signature_is_right(context, token, second - 1, signature) then
        return nil
    end
    local header = decode_json(decode_base64url(sub(token, 1, first - 1)) or "")
    if not header or header.alg ~= "HS256" then
        return nil
    end
    local claims = decode_json(decode_base64url(sub(token, first + 1, second - 1)) or "")
    if not claims or type(claims.exp) ~= "number" or claims.exp <= now then
        return nil
    end
    return claims.sub
end

return _M

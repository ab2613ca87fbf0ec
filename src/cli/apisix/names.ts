/** What a plugin is called in APISIX, and what may not be called so. */

/** A part of a Lua module's name and of a file's. */
const NAME = /^[a-z][a-z0-9_-]*$/;
/** APISIX takes no longer id of a plugin's metadata, and that is the plugin's name. */
const MOST_METADATA_NAME = 64;

/** Files of this project beside the generated ones. */
const OURS = new Set([
  "resty-ts",
  "ts-plugin-pre-req",
  "ts-plugin-post-req",
  "ts-plugin-post-resp",
]);

/** The names of the plugins that APISIX 3.18 brings. */
const APISIX = new Set(
  `
  acl ai ai-aliyun-content-moderation ai-aws-content-moderation ai-cache ai-lakera-guard
  ai-prompt-decorator ai-prompt-guard ai-prompt-template ai-proxy ai-proxy-multi ai-rag
  ai-rate-limiting ai-request-rewrite api-breaker attach-consumer-label authz-casbin
  authz-casdoor authz-keycloak aws-lambda azure-functions basic-auth batch-requests
  body-transformer brotli cas-auth chaitin-waf clickhouse-logger client-control
  consumer-restriction cors csrf data-mask datadog degraphql dingtalk-auth dubbo-proxy echo
  elasticsearch-logger error-log-logger error-page example-plugin exit-transformer
  ext-plugin-post-req ext-plugin-post-resp ext-plugin-pre-req fault-injection feishu-auth
  file-logger forward-auth gm google-cloud-logging graphql-limit-count graphql-proxy-cache
  grpc-transcode grpc-web gzip hmac-auth http-dubbo http-logger inspect ip-restriction
  jwe-decrypt jwt-auth kafka-logger kafka-proxy key-auth lago ldap-auth ldap-auth-advanced
  limit-conn limit-count limit-req log-rotate loggly loki-logger mcp-bridge mocking multi-auth
  node-status oas-validator ocsp-stapling opa openfunction openid-connect opentelemetry
  openwhisk prometheus proxy-buffering proxy-cache proxy-control proxy-mirror proxy-rewrite
  public-api real-ip redirect referer-restriction request-id request-validation response-rewrite
  rocketmq-logger saml-auth server-info serverless-post-function serverless-pre-function
  skywalking skywalking-logger sls-logger splunk-hec-logging syslog tcp-logger tencent-cloud-cls
  traffic-label traffic-split ua-restriction udp-logger uri-blocker wolf-rbac workflow zipkin
  `
    .trim()
    .split(/\s+/),
);

/** Whether APISIX 3.18 has a plugin of this name. */
export function isApisixOwn(name: string): boolean {
  return APISIX.has(name);
}

/** What is wrong with a name; undefined: nothing. */
export function nameProblem(name: string, hasMetadata: boolean): string | undefined {
  if (!NAME.test(name)) {
    return (
      `${JSON.stringify(name)} cannot be a plugin's name in APISIX: lower-case letters, digits, ` +
      '"-" and "_", from a letter on'
    );
  }
  if (OURS.has(name)) {
    return `${name} is the name of a file of resty-ts itself: choose another --prefix`;
  }
  if (hasMetadata && name.length > MOST_METADATA_NAME) {
    return (
      `${name} has ${name.length} characters, and APISIX takes metadata of plugins whose name has ` +
      `${MOST_METADATA_NAME} at most: shorten it, or leave out apisix.metadataSchema`
    );
  }
  return undefined;
}

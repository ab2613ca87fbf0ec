/**
 * What is there for Apache APISIX: ctx.apisix, and the chain of what a plugin has once in a worker
 * (apisix.init, destroy and its routes).
 *
 * Thread: the environment's own.
 */
import type { ApisixRequest, Consumer } from "../sdk/apisix.js";
import type { BodyFilterContext, RequestContext } from "../sdk/http.js";
import type { Plugin } from "../sdk/plugin.js";
import { Change } from "./changes.js";
import type { Draft } from "./draft.js";
import { dropPrototypes } from "./own-properties.js";
import { textOf } from "./text.js";

/** What Lua tells of a consumer. */
interface Told {
  readonly name: unknown;
  readonly username?: unknown;
  readonly group_id?: unknown;
  readonly labels?: Readonly<Record<string, unknown>> | null;
  readonly custom_id?: unknown;
  readonly credential_id?: unknown;
  readonly conf?: unknown;
}

function consumerOf(told: Told): Consumer<never> {
  const { labels } = told;
  return {
    name: textOf(told.name)!,
    username: textOf(told.username),
    groupId: textOf(told.group_id),
    labels:
      labels === null || labels === undefined
        ? undefined
        : dropPrototypes(
            Object.fromEntries(
              Object.entries(labels).map(([key, value]) => [key, textOf(value) ?? ""]),
            ),
          ),
    customId: textOf(told.custom_id),
    credentialId: textOf(told.credential_id),
    conf: dropPrototypes(told.conf ?? {}) as never,
  };
}

export class ApisixRequestImpl implements ApisixRequest {
  readonly #draft: Draft;

  constructor(draft: Draft) {
    this.#draft = draft;
  }

  async findConsumer<Conf>(field: string, value: string): Promise<Consumer<Conf> | null> {
    const [told] = await this.#draft.ask("consumer", field, value);
    return told === null || told === undefined ? null : consumerOf(told as Told);
  }

  attachConsumer(consumer: Consumer): void {
    this.#draft.run.mustWait("ctx.apisix.attachConsumer");
    this.#draft.change(Change.attachConsumer, consumer.name);
  }
}

/** Which route a message is for: its place in definePlugin's lists. */
const ROUTE = /^(api|control)\/(\d+)$/;

/**
 * The plugin as the chain of a worker's one use of it has it: setup is its init, teardown its
 * destroy, content answers its routes.
 */
export function workerPart(plugin: Plugin): Plugin {
  const { name, version, needs, policies, apisix = {} } = plugin;
  const hasRoutes = (apisix.api ?? apisix.controlApi) !== undefined;
  return {
    name,
    ...(version === undefined ? {} : { version }),
    ...(needs === undefined ? {} : { needs }),
    ...(policies === undefined ? {} : { policies }),
    setup: (_conf: unknown, ctx) => apisix.init?.(ctx) as unknown,
    teardown: ({ state }, ctx) => apisix.destroy?.(state, ctx),
    ...(hasRoutes
      ? {
          content(ctx: RequestContext, { state }: { readonly state: unknown }) {
            const which = Buffer.from((ctx as unknown as BodyFilterContext).chunk).toString();
            const [, list, index] = ROUTE.exec(which) ?? [];
            const routes = list === "api" ? apisix.api : apisix.controlApi;
            const route = routes?.[Number(index)];
            if (route === undefined) {
              throw new Error(
                `the plugin has no route ${which} any more: have APISIX reload its plugins`,
              );
            }
            return route.handler(ctx, state);
          },
        }
      : {}),
  };
}

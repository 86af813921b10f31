/** A client of the holdline server. */

/** The ways in which a line can be held. */
export type Transport = "ws" | "sse" | "poll";

/** What a line does; `closed` is for good. */
export type State = "connecting" | "open" | "waiting" | "offline" | "closed";

export interface HoldlineOptions {
  /** The ladder: which transports are tried, the best first. Default: `["ws", "sse", "poll"]`. */
  transports?: readonly Transport[];
  /**
   * A credential, or who gives one: asked before each connection, and once more, with `true`, when the server has
   * refused its last answer; again later when it fails, or gives none within 30 s. Sent as `Authorization: Bearer`,
   * by WebSocket as the subprotocol `holdline.bearer.…`.
   */
  token?: string | ((isRefused: boolean) => string | undefined | Promise<string | undefined>);
  /** The class to make WebSockets of. Default: the global one; without it the ladder begins at `sse`. */
  WebSocket?: new (url: string, protocols?: string[]) => any;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /**
   * Where subscriptions begin that do not say so: a position that `cursor` once was, `"earliest"`, `"latest"` (the
   * default), a duration (`"10m"`) or a Unix time in seconds.
   */
  since?: string;
  /**
   * `"live"`: after a gap, leave out what is still kept. For subscriptions that do not say so. Over `sse` and `poll`,
   * after a gap in the middle of a connection (`slow`), it holds only if all of them have it.
   */
  gap?: "live" | "retained";
  /** How many seconds of silence the server lets pass before it says that it is there: 10 to 300. Over `sse`: 15. */
  heartbeat?: number;
  /**
   * How many publications are kept while they cannot be sent: up to 100. Default: 0. Each has an idempotency key, which
   * the server knows for five minutes.
   */
  queue?: number;
  /**
   * How many messages are kept for a `for await` loop that does not take them. Default: 10000. When there are more the loop
   * ends with an error, whose `code` is `"overflow"`.
   */
  buffer?: number;
}

/** Of the first subscription to a channel; those that join it while it is there join from now on. */
export interface SubscribeOptions {
  since?: string;
  gap?: "live" | "retained";
}

export interface PublishOptions {
  /** The event's name: 1–64 visible ASCII characters. */
  event?: string;
  /** The media type. Default: that of the payload. */
  type?: string;
  /** For how many seconds it may be replayed; 0: only for who listens now. */
  ttl?: number;
  /** The same key within five minutes on the same channel is the same publication. */
  idempotencyKey?: string;
}

/** The publisher's answer. */
export interface Published {
  id: string;
  /** How many listened at that moment. Do not publish again because it is 0. */
  subscribers: number;
}

/** What `publish` is rejected with. */
export interface PublishError extends Error {
  /**
   * The server's word (`"forbidden"`, `"rate_limited"`, …), 4000 and the HTTP status where something else answered,
   * `"lost"` (no answer: published, or not), `"token"` (its function gave none), `"queue_full"` or `"closed"`.
   */
  code: string | number;
  /** How many milliseconds to wait, if the server said so. */
  retry?: number;
}

/** A `MessageEvent`. `data` is what was published: JSON parsed, a string, or a `Uint8Array`. */
export interface HoldlineMessage<T = any> extends Event {
  readonly data: T;
  /** The message's id: the position just after it. */
  readonly lastEventId: string;
  readonly channel: string;
  /** The event's name; empty if the publisher gave none. */
  readonly event: string;
  /** When the server accepted it: Unix time in milliseconds. */
  readonly time: number;
  readonly contentType: string;
}

/** Something is missing: `channels` lost what was published between `since` and `resumed`. */
export interface Gap {
  channels: string[];
  reason: "epoch" | "trimmed" | "slow" | (string & {});
  /** The position that was lost; empty if it was none. */
  since: string;
  /** Where delivery goes on. */
  resumed: string;
  /** Wait so many milliseconds before fetching the lost state from elsewhere: others have lost it as well. */
  spread_ms: number;
}

export interface StateChange {
  state: State;
  /** Which one is tried, or carries the line. */
  transport: Transport | null;
  /**
   * Why; empty while all is well. What the server said, or one word in every browser: `cut`, `timeout`, `status 502`,
   * `not understood`, `restart`, … (README.md has them all).
   */
  reason: string;
  /** A WebSocket's close code, or 4000 and an HTTP status, or 0; `"token"` if its function gave none. */
  code: number | "token";
  /** When the next attempt will be: Unix time in milliseconds. */
  retryAt: number | null;
}

export interface Closed {
  /** As in `StateChange`; 1000 if `close()` was called; the server's word for one subscription that was refused. */
  code: number | string;
  reason: string;
  final: true;
}

export interface Refused {
  /** The subscription that was refused; none if something else was. */
  channel?: string;
  code: number | string;
  reason: string;
}

/** An event with its fields, which are also together in `detail`. */
export type Told<T> = Event & Readonly<T> & { readonly detail: T };

export interface SubscriptionEvents<T = any> {
  message: HoldlineMessage<T>;
  gap: Event & { readonly detail: Gap };
  live: Told<{ channel: string }>;
  close: Told<Closed>;
}

export interface HoldlineEvents {
  open: Told<{ transport: Transport }>;
  message: HoldlineMessage;
  gap: Event & { readonly detail: Gap };
  /** It has caught up, and what follows is new. */
  live: Told<{ channel: string }>;
  state: Told<StateChange>;
  close: Told<Closed>;
  error: Told<Refused>;
}

// Named here, since Node's types have no such names.
type ListenerOptions = boolean | { capture?: boolean; once?: boolean; passive?: boolean; signal?: AbortSignal };
type AnyListener = ((event: Event) => void) | { handleEvent(event: Event): void } | null;
type Listener<Self, E> = ((this: Self, event: E) => unknown) | { handleEvent(event: E): unknown } | null;

/** One listener to a channel; made by `Holdline.subscribe`. */
export interface Subscription<T = any> extends EventTarget, AsyncIterable<HoldlineMessage<T>> {
  readonly channel: string;
  readonly state: "pending" | "live" | "closed";
  close(): void;
  onmessage?: ((this: Subscription<T>, event: HoldlineMessage<T>) => unknown) | null;
  ongap?: ((this: Subscription<T>, event: SubscriptionEvents["gap"]) => unknown) | null;
  onlive?: ((this: Subscription<T>, event: SubscriptionEvents["live"]) => unknown) | null;
  onclose?: ((this: Subscription<T>, event: SubscriptionEvents["close"]) => unknown) | null;
  addEventListener<K extends keyof SubscriptionEvents>(
    type: K,
    listener: Listener<Subscription<T>, SubscriptionEvents<T>[K]>,
    options?: ListenerOptions,
  ): void;
  addEventListener(type: string, listener: AnyListener, options?: ListenerOptions): void;
  removeEventListener<K extends keyof SubscriptionEvents>(
    type: K,
    listener: Listener<Subscription<T>, SubscriptionEvents<T>[K]>,
    options?: ListenerOptions,
  ): void;
  removeEventListener(type: string, listener: AnyListener, options?: ListenerOptions): void;
}

/** A line to a server: any number of channels, over whichever transport works, held until `close()`. */
export class Holdline extends EventTarget {
  /** `url`: the server's base; the paths of its protocol are below it. Default: where the page is. */
  constructor(url?: string | URL, options?: HoldlineOptions);
  /**
   * The position of all channels: as `since`, it brings a later page to where this one is, and loses nothing. Null until
   * something was told. While a channel catches up it is that channel's position; before it has begun, its `since`.
   */
  readonly cursor: string | null;
  /** Which transport carries the line. */
  readonly transport: Transport | null;
  readonly state: State;
  /** As of WebSocket and EventSource: 0 connecting or waiting, 1 open, 2 closed. */
  readonly readyState: 0 | 1 | 2;
  /** While waiting: when the next attempt will be, as Unix time in milliseconds. */
  readonly retryAt: number | null;
  /** Throws `too_many` for more than 128 channels, and `closed` after the end. */
  subscribe<T = any>(channel: string, options?: SubscribeOptions): Subscription<T>;
  publish(channel: string, data: unknown, options?: PublishOptions): Promise<Published>;
  close(): void;
  onopen?: ((this: Holdline, event: HoldlineEvents["open"]) => unknown) | null;
  onmessage?: ((this: Holdline, event: HoldlineEvents["message"]) => unknown) | null;
  ongap?: ((this: Holdline, event: HoldlineEvents["gap"]) => unknown) | null;
  onlive?: ((this: Holdline, event: HoldlineEvents["live"]) => unknown) | null;
  onstate?: ((this: Holdline, event: HoldlineEvents["state"]) => unknown) | null;
  onclose?: ((this: Holdline, event: HoldlineEvents["close"]) => unknown) | null;
  onerror?: ((this: Holdline, event: HoldlineEvents["error"]) => unknown) | null;
  addEventListener<K extends keyof HoldlineEvents>(
    type: K,
    listener: Listener<Holdline, HoldlineEvents[K]>,
    options?: ListenerOptions,
  ): void;
  addEventListener(type: string, listener: AnyListener, options?: ListenerOptions): void;
  removeEventListener<K extends keyof HoldlineEvents>(
    type: K,
    listener: Listener<Holdline, HoldlineEvents[K]>,
    options?: ListenerOptions,
  ): void;
  removeEventListener(type: string, listener: AnyListener, options?: ListenerOptions): void;
}

export default Holdline;

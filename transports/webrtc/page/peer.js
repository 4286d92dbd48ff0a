// One call's WebRTC connection: offer, trickled candidates, data channel, keepalive,
// and one attempt to restart a connection that was lost.

import { PageError } from "./errors.js";
import { ask } from "./server.js";

const OPEN_WITHIN_MS = 20_000;
const RESTART_WITHIN_MS = 10_000;
const SILENT_FOR_MS = 6_000; // nothing at all came in: the connection is gone
const KEEPALIVE_MS = 1_000; // the server takes three seconds without one for a lost peer

/**
 * @typedef {object} PeerEvents
 * @property {(track: MediaStreamTrack) => void} onTrack the bot's voice
 * @property {() => void} onOpen messages can be sent; also after a restart
 * @property {(message: any) => void} onMessage
 * @property {() => void} onRestarting the connection was lost and is being restarted
 * @property {(error: PageError | null) => void} onEnd null when the server hung up
 */

export class Peer {
  #microphone;
  #events;
  #endpoint = "";
  #iceConfig = {};
  /** @type {RTCPeerConnection | null} */
  #connection = null;
  /** @type {RTCDataChannel | null} */
  #channel = null;
  /** @type {string | null} */
  #id = null;
  /** @type {RTCIceCandidate[]} */
  #candidates = [];
  #sending = false;
  #restarting = false;
  #ended = false;
  #timer = 0;
  #received = 0;
  #receivedAt = 0;

  /**
   * @param {MediaStreamTrack} microphone
   * @param {PeerEvents} events
   */
  constructor(microphone, events) {
    this.#microphone = microphone;
    this.#events = events;
  }

  /** Call the server; resolves when messages can be sent. */
  async connect() {
    const start = await ask("POST", "/start", { transport: "webrtc" });
    if (this.#ended) return;
    this.#endpoint = `/sessions/${encodeURIComponent(start.sessionId)}/api/offer`;
    this.#iceConfig = start.iceConfig ?? {};
    await this.#dial(OPEN_WITHIN_MS, {});
    if (this.#ended) return;
    this.#timer = window.setInterval(() => this.#tick(), KEEPALIVE_MS);
  }

  /**
   * @param {object} message
   * @returns {boolean} whether there is a connection that takes it
   */
  send(message) {
    if (this.#channel?.readyState !== "open") return false;
    this.#channel.send(JSON.stringify(message));
    return true;
  }

  /** @param {MediaStreamTrack} track */
  async useMicrophone(track) {
    this.#microphone = track;
    await this.#connection?.getTransceivers()[0]?.sender.replaceTrack(track);
  }

  close() {
    this.#ended = true;
    window.clearInterval(this.#timer);
    this.#drop();
  }

  #drop() {
    this.#channel = null;
    this.#connection?.close();
    this.#connection = null;
  }

  /** @param {PageError | null} error */
  #end(error) {
    if (this.#ended) return;
    this.close();
    this.#events.onEnd(error);
  }

  /**
   * @param {number} within milliseconds until the data channel must be open
   * @param {object} extra fields of the offer
   */
  async #dial(within, extra) {
    const connection = new RTCPeerConnection(this.#iceConfig);
    this.#connection = connection;
    this.#candidates = [];
    const current = () => this.#connection === connection && !this.#ended;
    connection.addTransceiver(this.#microphone, { direction: "sendrecv" });
    connection.ontrack = ({ track }) => current() && this.#events.onTrack(track);
    connection.onicecandidate = ({ candidate }) => {
      if (!current() || !candidate) return;
      this.#candidates.push(candidate);
      if (this.#id) this.#trickle();
    };
    connection.onconnectionstatechange = () => {
      if (current() && connection.connectionState === "failed") this.#lost();
    };
    const channel = connection.createDataChannel("chat", { ordered: true });
    this.#channel = channel;
    channel.onmessage = ({ data }) => current() && this.#receive(data);
    channel.onclose = () => current() && this.#lost();
    const opened = new Promise((resolve, reject) => {
      channel.onopen = resolve;
      window.setTimeout(
        () => reject(new PageError("No connection to the server came up; a firewall may be in the way.")),
        within,
      );
    });
    opened.catch(() => {}); // it is awaited below, or no longer needed

    this.#id = null;
    await connection.setLocalDescription();
    const { sdp, type } = connection.localDescription;
    const answer = await ask("POST", this.#endpoint, { sdp, type, ...extra });
    if (!current()) return;
    this.#id = answer.pc_id;
    await connection.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
    this.#trickle();
    await opened;
    if (!current()) return;
    this.#receivedAt = performance.now();
    channel.send("ping");
    this.#events.onOpen();
  }

  /** Send the candidates found so far, one request at a time. */
  async #trickle() {
    if (this.#sending) return;
    this.#sending = true;
    try {
      while (this.#candidates.length && this.#id && !this.#ended) {
        const candidates = this.#candidates.splice(0).map((candidate) => ({
          candidate: candidate.candidate,
          sdp_mid: candidate.sdpMid,
          sdp_mline_index: candidate.sdpMLineIndex,
        }));
        await ask("PATCH", this.#endpoint, { pc_id: this.#id, candidates });
      }
    } catch {
      // Without these candidates the connection comes up or it does not: that is noticed.
    } finally {
      this.#sending = false;
    }
  }

  /** @param {string} data */
  #receive(data) {
    const message = JSON.parse(data);
    if (message.type !== "signalling") {
      this.#events.onMessage(message);
    } else if (message.message?.type === "peerLeft") {
      this.#end(null);
    } else if (message.message?.type === "renegotiate") {
      this.#renegotiate().catch(() => this.#lost());
    }
  }

  async #renegotiate() {
    const connection = this.#connection;
    await connection.setLocalDescription(await connection.createOffer());
    const { sdp, type } = connection.localDescription;
    const answer = await ask("POST", this.#endpoint, { sdp, type, pc_id: this.#id });
    await connection.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
  }

  /** Once a second: say that we are here, and notice when the server is not. */
  async #tick() {
    const connection = this.#connection;
    if (!connection || this.#restarting) return;
    if (this.#channel?.readyState === "open") this.#channel.send("ping");
    let received = 0;
    for (const entry of (await connection.getStats()).values()) {
      if (entry.type === "transport") received += entry.bytesReceived ?? 0;
    }
    if (connection !== this.#connection) return;
    const now = performance.now();
    if (received !== this.#received) {
      this.#received = received;
      this.#receivedAt = now;
    } else if (now - this.#receivedAt > SILENT_FOR_MS) {
      this.#lost();
    }
  }

  async #lost() {
    if (this.#ended || this.#restarting || !this.#id) return;
    this.#restarting = true;
    // Closing it now could tell the server, if anything still gets through, that we hung up.
    const lost = this.#connection;
    this.#events.onRestarting();
    try {
      await this.#dial(RESTART_WITHIN_MS, { pc_id: this.#id, restart_pc: true });
    } catch (cause) {
      // 404: the server has already given the session up, or is another one by now.
      const why = cause.status === 404 || !cause.message ? "" : ` ${cause.message}`;
      const error = new PageError(`The connection was lost.${why}`, { cause });
      error.lost = true;
      this.#end(error);
    } finally {
      lost?.close();
      this.#restarting = false;
    }
  }
}

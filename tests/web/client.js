// A page that calls with Pipecat's own client; the test drives it through `window`.

import { PipecatClient } from "@pipecat-ai/client-js";
import { SmallWebRTCTransport, WavMediaManager } from "@pipecat-ai/small-webrtc-transport";

const events = [];
let voice = null;

const client = new PipecatClient({
  // The default media manager loads code from its maker's servers; this one does not.
  transport: new SmallWebRTCTransport({ mediaManager: new WavMediaManager() }),
  enableMic: true,
  enableCam: false,
  callbacks: {
    onBotReady: (data) => events.push(["bot-ready", data.version]),
    onUserTranscript: (data) => events.push(["transcript", data.text, data.final]),
    onServerMessage: (data) => events.push(["message", data]),
    onBotOutput: (data) => events.push(["output", data.text]),
    onBotStartedSpeaking: () => events.push(["bot speaks"]),
    onUserStartedSpeaking: () => events.push(["user speaks"]),
    onDisconnected: () => events.push(["disconnected"]),
    onError: (message) => events.push(["error", message.data]),
    onTrackStarted: (track, participant) => {
      if (participant?.local || track.kind !== "audio") return;
      voice = track;
      const sound = document.querySelector("audio");
      sound.srcObject = new MediaStream([track]);
      sound.play();
    },
  },
});

window.events = events;
window.start = (server) =>
  client.startBotAndConnect({ endpoint: `${server}/start`, requestData: { body: { from: "npm" } } });
window.stop = () => client.disconnect();

/** Loudest sample of the bot's voice within half a second. */
window.loudness = async () => {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(new MediaStream([voice])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let loudest = 0;
  for (let look = 0; look < 20; look += 1) {
    await new Promise((resolve) => setTimeout(resolve, 25));
    analyser.getFloatTimeDomainData(samples);
    for (const sample of samples) loudest = Math.max(loudest, Math.abs(sample));
  }
  await context.close();
  return loudest;
};

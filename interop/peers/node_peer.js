// libwebrtc in Node: one peer that talks JSON lines on its standard streams. The first line is its plan.
"use strict";

const { createInterface } = require("node:readline");
const { RTCPeerConnection } = require("@roamhq/wrtc");
const { runPeer } = require("./peer.js");

const waiting = [];
const lines = [];
createInterface({ input: process.stdin }).on("line", (line) => {
  const message = JSON.parse(line);
  if (waiting.length) waiting.shift()(message);
  else lines.push(message);
});
const signal = {
  send: (message) => process.stdout.write(`${JSON.stringify(message)}\n`),
  receive: () => new Promise((resolve) => (lines.length ? resolve(lines.shift()) : waiting.push(resolve))),
};

(async () => {
  const plan = await signal.receive();
  await runPeer(new RTCPeerConnection({ iceServers: [] }), signal, plan);
  process.exit(0);
})();

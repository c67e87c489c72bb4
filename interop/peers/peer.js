// One end of an exchange, in a browser's page or in Node: connect, swap messages, tell by which pair, close.
//
// `signal` has send(object) and receive(): Promise<object>; `plan` is {offers}; `stream` is what a browser's camera gives.
"use strict";

const MESSAGES = 64;
const MESSAGE_BYTES = 1024;
const DONE = "done";

// The n-th message of either side.
function message(n) {
  return Uint8Array.from({ length: MESSAGE_BYTES }, (_, index) => (31 * n + 7 * index) & 0xff);
}

// FNV-1a, 32 bits: both ends compute it of what came.
function checksum(chunks) {
  let hash = 0x811c9dc5;
  for (const chunk of chunks)
    for (const byte of chunk) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

function gathered(pc) {
  return new Promise((resolve) => {
    const check = () => pc.iceGatheringState === "complete" && resolve();
    pc.addEventListener("icegatheringstatechange", check);
    check();
  });
}

async function describe(pc, signal, description) {
  await pc.setLocalDescription(description);
  await gathered(pc);
  signal.send({ type: pc.localDescription.type, sdp: pc.localDescription.sdp });
}

// The candidates of the pair that carries the data, as the other end's statistics know them.
async function selectedPair(pc) {
  const stats = new Map();
  (await pc.getStats()).forEach((value, key) => stats.set(key, value));
  const all = [...stats.values()];
  const transport = all.find((each) => each.type === "transport" && each.selectedCandidatePairId);
  const pair = transport
    ? stats.get(transport.selectedCandidatePairId)
    : all.find((each) => each.type === "candidate-pair" && (each.selected || each.nominated) && each.state === "succeeded");
  if (!pair) return null;
  const end = (id) => {
    const { candidateType, protocol, tcpType, address, ip, port } = stats.get(id);
    return { candidateType, protocol, tcpType, address: address || ip, port };
  };
  return { local: end(pair.localCandidateId), remote: end(pair.remoteCandidateId) };
}

// What a channel receives from now on, and when it is open.
function listen(channel) {
  channel.binaryType = "arraybuffer";
  const chunks = [];
  const finished = new Promise((resolve) => {
    channel.onmessage = ({ data }) => (typeof data === "string" ? resolve(chunks) : chunks.push(new Uint8Array(data)));
  });
  const opened = new Promise((resolve) => {
    channel.onopen = () => resolve(performance.now());
    if (channel.readyState === "open") channel.onopen();
  });
  return { channel, opened, finished };
}

async function exchange({ channel, finished }) {
  for (let n = 0; n < MESSAGES; n += 1) channel.send(message(n));
  channel.send(DONE);
  const chunks = await finished;
  return { received: chunks.length, checksum: checksum(chunks) };
}

async function runPeer(pc, signal, plan, stream = null) {
  const addTracks = () => stream && stream.getTracks().forEach((track) => pc.addTrack(track, stream));
  const given = new Promise((resolve) => (pc.ondatachannel = (event) => resolve(listen(event.channel))));
  let listening, setAt;
  if (plan.offers) {
    listening = listen(pc.createDataChannel("peers"));
    addTracks();
    await describe(pc, signal, await pc.createOffer());
    const answer = await signal.receive();
    setAt = performance.now();
    await pc.setRemoteDescription(answer);
  } else {
    await pc.setRemoteDescription(await signal.receive());
    addTracks();
    await describe(pc, signal, await pc.createAnswer());
    setAt = performance.now();
    listening = await given;
  }
  const { channel } = listening;
  const seconds = ((await listening.opened) - setAt) / 1000; // as rtc_peer.py counts them
  const result = { seconds, ...(await exchange(listening)) };
  result.pair = await selectedPair(pc);
  signal.send({ type: "result", ...result });
  const order = await signal.receive();
  if (order.type === "close") {
    pc.close();
  } else if (channel.readyState !== "closed") {
    await new Promise((resolve) => (channel.onclose = resolve));
    pc.close();
  }
  signal.send({ type: "closed" });
}

if (typeof module !== "undefined") module.exports = { runPeer };

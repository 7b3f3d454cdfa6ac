// Renders avatars: reads attributes (JSON lines on the given file), writes raw RGB bytes, 64x64x3 per line.
// Usage: node render.mjs attributes.jsonl images.raw
import fs from "node:fs";
import { createAvatar } from "@dicebear/core";
import { personas, pixelArt } from "@dicebear/collection";
import { Resvg } from "@resvg/resvg-js";

const SIZE = 64;
const COLORS = {
  hair: { black: "1d1a22", brown: "6b3f1d", blonde: "efc84a", red: "c8401f", blue: "3a6ee8", pink: "f06aa8", gray: "b4b6ba" },
  cloth: { red: "d62828", blue: "2f6fde", green: "2e9e4f", yellow: "f2c230", purple: "8a3fc0", white: "f2f2f2", black: "2b2b30" },
  background: { blue: "8ec5f2", green: "9fe0a0", pink: "f7b0cf", yellow: "f8e48a", purple: "c0a8ee", gray: "c4c6ca", orange: "f9bc80" },
  skin: { light: "f6d3b0", brown: "b87a4b", dark: "6e4427" },
};
const PIXEL = {
  hair: {
    long: ["long01", "long02", "long03", "long12", "long13"], short: ["short01", "short03", "short10", "short14", "short17"],
    curly: ["long15", "short11", "short13"], bob: ["long04", "long16"], pigtails: ["long18"], mohawk: ["short05", "short21"],
    bun: ["long05"], bald: ["short04"],
  },
  mouth: { smiling: ["happy12"], frowning: ["sad01"], surprised: ["happy01"] },
  eyewear: { glasses: ["light01", "light03", "light05", "light06"], sunglasses: ["dark02", "dark05", "dark06"] },
  hat: ["variant01", "variant02", "variant06", "variant09"],
  beard: ["variant05", "variant06", "variant07"],
  eyes: ["variant01", "variant05", "variant09", "variant10"],
  clothing: ["variant03", "variant12", "variant14", "variant17"],
};
const PERSONAS = {
  hair: {
    long: ["long", "extraLong"], short: ["shortCombover", "shortComboverChops"], curly: ["curly", "curlyHighTop"],
    bob: ["bobBangs", "bobCut"], pigtails: ["pigtails"], mohawk: ["mohawk"], bun: ["straightBun", "curlyBun"], bald: ["bald"],
  },
  mouth: { smiling: ["bigSmile"], frowning: ["frown"], surprised: ["surprise"] },
};

function pixelSvg(a) {
  const svg = createAvatar(pixelArt, {
    seed: String(a.seed), size: SIZE, accessoriesProbability: 0,
    backgroundColor: [COLORS.background[a.background]], skinColor: [COLORS.skin[a.skin]],
    hair: PIXEL.hair[a.hat === "none" ? a.hair : "short"],
    hairColor: [a.hair === "bald" && a.hat === "none" ? "transparent" : COLORS.hair[a.hair_color]],
    hat: PIXEL.hat, hatColor: [COLORS.cloth[a.hat === "none" ? "red" : a.hat]], hatProbability: a.hat === "none" ? 0 : 100,
    glasses: PIXEL.eyewear[a.eyewear] ?? [], glassesColor: ["191919"], glassesProbability: a.eyewear === "none" ? 0 : 100,
    beard: PIXEL.beard, beardProbability: a.beard === "beard" ? 100 : 0,
    mouth: PIXEL.mouth[a.mouth], mouthColor: ["d0504a"], eyes: PIXEL.eyes,
    clothing: a.pattern === "checkered" ? ["variant06"] : PIXEL.clothing, clothingColor: [COLORS.cloth[a.shirt]],
  }).toString();
  // DiceBear masks a beard by the luminance of the hair colour, so dark beards would be invisible.
  const beard = a.hair === "bald" ? COLORS.hair[a.hair_color] : "$2";
  return svg
    .replace(/(<mask id="beard[^>]*>\s*<path[^>]*fill=")[^"]*/, "$1#fff")
    .replace(/(<g mask="url\(#beard[^>]*>\s*<path fill=")(#?\w+)/, beard === "$2" ? "$1$2" : `$1#${beard}`);
}

function personasSvg(a) {
  const hat = a.hat !== "none";
  const svg = createAvatar(personas, {
    seed: String(a.seed), size: SIZE, scale: 118, translateY: 6,
    backgroundColor: [COLORS.background[a.background]], skinColor: [COLORS.skin[a.skin]],
    hair: hat ? ["cap", "beanie"] : PERSONAS.hair[a.hair], hairColor: [COLORS.hair[a.hair_color]],
    eyes: a.eyewear === "none" ? ["open", "happy"] : [a.eyewear], nose: ["smallRound"], mouth: PERSONAS.mouth[a.mouth],
    facialHair: ["beardMustache"], facialHairProbability: a.beard === "beard" ? 100 : 0,
    body: a.pattern === "checkered" ? ["checkered"] : ["rounded", "squared"], clothingColor: [COLORS.cloth[a.shirt]],
  }).toString();
  return hat ? svg.replaceAll(/#(F29C65|E15C66)/g, `#${COLORS.cloth[a.hat]}`) : svg;
}

const [input, output] = process.argv.slice(2);
const file = fs.openSync(output, "w");
for (const line of fs.readFileSync(input, "utf8").split("\n").filter(Boolean)) {
  const a = JSON.parse(line);
  const rgba = new Resvg(a.style === "pixel art" ? pixelSvg(a) : personasSvg(a)).render().pixels;
  const rgb = Buffer.alloc(SIZE * SIZE * 3);
  for (let i = 0; i < SIZE * SIZE; i++) rgba.copy(rgb, 3 * i, 4 * i, 4 * i + 3);
  fs.writeSync(file, rgb);
}
fs.closeSync(file);

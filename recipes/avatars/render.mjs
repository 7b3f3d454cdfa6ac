// Renders avatars: reads attributes (JSON lines on the given file), writes raw RGB bytes, 64x64x3 per line.
// Usage: node render.mjs attributes.jsonl images.raw
import fs from "node:fs";
import { createAvatar } from "@dicebear/core";
import { pixelArt } from "@dicebear/collection";
import { Resvg } from "@resvg/resvg-js";

const SIZE = 64;
const COLORS = {
  hair: { black: "1d1a22", brown: "6b3f1d", blonde: "efc84a", red: "c8401f", blue: "3a6ee8", pink: "f06aa8", gray: "b4b6ba" },
  cloth: { red: "d62828", blue: "2f6fde", green: "2e9e4f", yellow: "f2c230", purple: "8a3fc0", white: "f2f2f2", black: "2b2b30" },
  background: { blue: "8ec5f2", green: "9fe0a0", pink: "f7b0cf", yellow: "f8e48a", purple: "c0a8ee", gray: "c4c6ca", orange: "f9bc80" },
  skin: { light: "f6d3b0", brown: "b87a4b", dark: "6e4427" },
};
const VARIANTS = {
  hair: {
    long: ["long02", "long03", "long07", "long12", "long13"], short: ["short01", "short03", "short10", "short14", "short17"],
    spiky: ["long15", "short11", "short13"], bob: ["long04", "long16"], pigtails: ["long18"], mohawk: ["short05", "short21"],
    bun: ["long05"], bald: ["short04"],
  },
  mouth: { smiling: ["happy09"], frowning: ["sad01"], surprised: ["happy01"] },
  eyewear: { glasses: ["light05", "light06", "light07"], sunglasses: ["dark02", "dark03"] },
  hat: ["variant01", "variant02", "variant06", "variant09"],
  beard: ["variant05", "variant06", "variant07"],
  eyes: ["variant01", "variant05", "variant09", "variant10"],
  clothing: ["variant03", "variant12", "variant14", "variant17"],
};

function portrait(a) {
  const drawn = createAvatar(pixelArt, {
    seed: String(a.seed), size: SIZE, accessoriesProbability: 0,
    backgroundColor: [COLORS.background[a.background]], skinColor: [COLORS.skin[a.skin]],
    hair: VARIANTS.hair[a.hat === "none" ? a.hair : "short"],
    hairColor: [a.hair === "bald" && a.hat === "none" ? "transparent" : COLORS.hair[a.hair_color]],
    hat: VARIANTS.hat, hatColor: [COLORS.cloth[a.hat === "none" ? "red" : a.hat]], hatProbability: a.hat === "none" ? 0 : 100,
    glasses: VARIANTS.eyewear[a.eyewear] ?? [], glassesColor: ["191919"], glassesProbability: a.eyewear === "none" ? 0 : 100,
    beard: VARIANTS.beard, beardProbability: a.beard === "beard" ? 100 : 0,
    mouth: VARIANTS.mouth[a.mouth], mouthColor: ["d0504a"], eyes: VARIANTS.eyes,
    clothing: a.pattern === "checkered" ? ["variant06"] : VARIANTS.clothing, clothingColor: [COLORS.cloth[a.shirt]],
  }).toString();
  // DiceBear masks a beard by the luminance of the hair colour, so dark beards would be invisible.
  const beard = a.hair === "bald" ? COLORS.hair[a.hair_color] : "$2";
  return drawn
    .replace(/(<mask id="beard[^>]*>\s*<path[^>]*fill=")[^"]*/, "$1#fff")
    .replace(/(<g mask="url\(#beard[^>]*>\s*<path fill=")(#?\w+)/, beard === "$2" ? "$1$2" : `$1#${beard}`);
}

const [input, output] = process.argv.slice(2);
const file = fs.openSync(output, "w");
for (const line of fs.readFileSync(input, "utf8").split("\n").filter(Boolean)) {
  const a = JSON.parse(line);
  const rgba = new Resvg(portrait(a)).render().pixels;
  const rgb = Buffer.alloc(SIZE * SIZE * 3);
  for (let i = 0; i < SIZE * SIZE; i++) rgba.copy(rgb, 3 * i, 4 * i, 4 * i + 3);
  fs.writeSync(file, rgb);
}
fs.closeSync(file);

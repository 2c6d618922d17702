// verify.mjs ALGORITHM CONTEXT KEY MESSAGE SIGNATURE: status 0 if it verifies.
import { readFileSync } from 'node:fs';
import { ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';

const [algorithm, context, ...files] = process.argv.slice(2);
const [key, message, signature] = files.map((f) => Uint8Array.from(readFileSync(f)));
const dsa = { 'ml-dsa-65': ml_dsa65, 'ml-dsa-87': ml_dsa87 }[algorithm];
let good = false;
try {
  good = dsa.verify(signature, message, key, { context: new TextEncoder().encode(context) });
} catch (e) {
  console.log(e.message); // a signature of another length
}
process.exit(good ? 0 : 1);

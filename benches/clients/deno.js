// Deno: deno.js URL
const answer = await fetch(Deno.args[0]);
await answer.text();

// Two handshakes at once: with the control, and with n dummy certificates. Settings are put in by the server.
(async () => {
  const {control, live, max} = SETTINGS;
  const home = new URL(document.currentScript.src);
  const port = home.port && ":" + home.port;
  const draw = () => ({
    key: Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    n: 1 + Math.floor(Math.random() * max),
  });
  const asked = fetch(new URL("/pair", home), {cache: "no-store", credentials: "omit"});
  const {key, n} = await asked.then((answer) => answer.json()).catch(draw);
  const probe = (name) => fetch(`https://${name}${port}/s?k=${key}&n=${n}`,
    {mode: "cors", cache: "no-store", credentials: "omit", keepalive: true})
    .then((answer) => answer.ok ? "stored" : "not stored", () => "failed");
  const names = [control, `${n}.${live}`];
  const first = Math.random() < 0.5 ? 0 : 1;
  const ends = [];
  await Promise.all([first, 1 - first].map(async (which) => { ends[which] = await probe(names[which]); }));
  const shown = document.getElementById("fanfold-handshakes");
  if (shown) shown.textContent = `done: n ${n}, control ${ends[0]}, live ${ends[1]}`;
})();

// Node.js: node.js URL CA
const [url, ca] = process.argv.slice(2);
const options = { ca: require("fs").readFileSync(ca) };
require("https").get(url, options, (answer) => answer.resume()).on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});

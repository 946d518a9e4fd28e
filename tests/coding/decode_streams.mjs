// Decodes streams by the JavaScript decoder under test, in Node and in browsers:
//   node decode_streams.mjs DECODER.mjs JOBS.json
// prints the results of jobs, {model, stream}: paths. `force` takes the model whatever its identity is.

function finish(work) {
  for (;;) {
    const { value, done } = work.next();
    if (done) return value;
  }
}

/** Return what went wrong, if anything, and of each step the hashes of logits, CDF rows and intervals. */
export function decode(exact, model, stream, force = false) {
  const result = { errors: {}, codes: [], hashes: { logits: [], cdf: [], intervals: [] }, milliseconds: 0 };
  const isKnown = (...kinds) => (error) => kinds.some((kind) => error instanceof exact[kind]);
  try {
    const { header, segments, lost, notes } = finish(exact.openStream(stream)), K = header.columns.length;
    Object.assign(result, { header, notes, lost, segments: segments.map(({ offset, end }) => [offset, end]) });
    const loaded = model && new exact.ExactModel(model);
    if (header.exact && !force && !loaded.sha256.startsWith(header.lmSha256)) throw new exact.ModelError("another model");
    const evaluator = header.exact ? new exact.Evaluator(loaded) : null;
    let hashing = 0;
    const trace = (...arrays) => {
      const since = performance.now();
      Object.values(result.hashes).forEach((list, i) => list.push(new exact.Sha256().update(arrays[i]).hex().slice(0, 16)));
      hashing += performance.now() - since;
    };
    const since = performance.now();
    for (const segment of segments) {
      try {
        const rows = finish(exact.decodeSegment(stream, header, segment, evaluator, trace));
        for (let i = 0; i < rows.length; i += K) result.codes.push([...rows.subarray(i, i + K)]);
      } catch (error) {
        if (!isKnown("SegmentError")(error)) throw error;
        result.errors[segment.index] = error.message;
      }
    }
    result.milliseconds = performance.now() - since - hashing;
  } catch (error) {
    if (!isKnown("StreamError", "ModelError")(error)) throw error;
    result.refused = error.message;
  }
  return result;
}

if (typeof process !== "undefined") {
  const { readFileSync } = await import("node:fs");
  const { pathToFileURL } = await import("node:url");
  const exact = await import(pathToFileURL(process.argv[2]));
  const bytes = (path) => path && new Uint8Array(readFileSync(path));
  const jobs = JSON.parse(readFileSync(process.argv[3], "utf8"));
  console.log(JSON.stringify(jobs.map(({ model, stream, force }) => decode(exact, bytes(model), bytes(stream), force))));
}

"use strict";
// The points of the page of the map, drawn by WebGL. Libraries that draw with WebGL build code from text, which the
// policy of the page forbids.
(() => {
  const SHADERS = {
    VERTEX_SHADER: `attribute vec2 place; attribute vec4 colour; uniform vec4 view; uniform float size; varying vec4 c;
      void main() { gl_Position = vec4((place - view.xy) * view.zw, 0., 1.); gl_PointSize = size; c = colour; }`,
    FRAGMENT_SHADER: `precision mediump float; varying vec4 c;
      void main() { if (distance(gl_PointCoord, vec2(.5)) > .5) discard; gl_FragColor = vec4(c.rgb * c.a, c.a); }`,
  };

  const link = (gl) => {
    const program = gl.createProgram();
    for (const [kind, text] of Object.entries(SHADERS)) {
      const shader = gl.createShader(gl[kind]);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    return program;
  };

  // Draw `places`, x and y of each point, on the canvas. `paint` takes four bytes of
  // colour for each point; `draw` the view, with its centre in the unit square of the map and pixels for its `side`.
  cpp.drawPoints = (canvas, places) => {
    const gl = canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
    if (!gl)
      throw new cpp.BrowserError(
        "this browser does not offer WebGL: turn on graphics acceleration in its settings, or open the page in another browser",
      );
    const n = places.length / 2;
    const program = link(gl);
    const attribute = (name, data, size, type) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
      const at = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, type, true, 0, 0);
    };
    attribute("place", places, 2, gl.UNSIGNED_SHORT);
    attribute("colour", new Uint8Array(4 * n), 4, gl.UNSIGNED_BYTE); // bound from here on
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const uniform = (name) => gl.getUniformLocation(program, name);
    return {
      paint: (colours) => gl.bufferSubData(gl.ARRAY_BUFFER, 0, colours),
      draw: ({ x, y, side }, width, height) => {
        gl.viewport(0, 0, canvas.width, canvas.height);
        gl.clearColor(0, 0, 0, 0);
        gl.clear(gl.COLOR_BUFFER_BIT);
        gl.uniform4f(uniform("view"), x, y, (2 * side) / width, (-2 * side) / height);
        const size = Math.min(7, Math.max(1.5, (side * 1.6) / Math.sqrt(n)));
        gl.uniform1f(uniform("size"), size * devicePixelRatio);
        gl.drawArrays(gl.POINTS, 0, n);
      },
    };
  };
})();

// The sheet to draw on, and files dropped on the page.
(() => {
  const pen = 22;
  let last = null;
  const sheet = () => document.getElementById("sheet");
  const context = () => sheet().getContext("2d");
  const place = (event) => {
    const box = sheet().getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const blank = (is) => document.getElementById("frame").classList.toggle("blank", is);
  const clear = () => {
    context().clearRect(0, 0, sheet().width, sheet().height);
    blank(true);
  };
  const send = () => {
    const paper = document.createElement("canvas");
    [paper.width, paper.height] = [sheet().width, sheet().height];
    const onPaper = paper.getContext("2d");
    onPaper.fillStyle = "#fff";
    onPaper.fillRect(0, 0, paper.width, paper.height);
    onPaper.drawImage(sheet(), 0, 0);
    emitEvent("drawn", paper.toDataURL("image/png").split(",")[1]);
  };
  const line = (from, to) => {
    const ink = context();
    [ink.lineWidth, ink.lineCap, ink.strokeStyle] = [pen, "round", "#000"];
    ink.beginPath();
    ink.moveTo(...from);
    ink.lineTo(...to);
    ink.stroke();
  };
  document.addEventListener("pointerdown", (event) => {
    if (event.target.id !== "sheet") return;
    event.target.setPointerCapture(event.pointerId);
    blank(false);
    last = place(event);
    line(last, last);
  });
  document.addEventListener("pointermove", (event) => {
    if (last === null) return;
    const here = place(event);
    line(last, here);
    last = here;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => {
      if (last === null) return;
      last = null;
      send();
    });
  }
  window.clearSheet = clear;
  window.listenForFiles = (id) => {
    const uploader = () => getElement(id).$refs.qRef;
    const frame = (dropping) =>
      document.getElementById("frame").classList.toggle("dropping", dropping);
    document.getElementById("choose").onclick = () => uploader().pickFiles();
    document.getElementById("clear").onclick = () => {
      clear();
      send();
    };
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      frame(true);
    });
    document.addEventListener("dragleave", () => frame(false));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      frame(false);
      uploader().addFiles(event.dataTransfer.files);
    });
  };
})();

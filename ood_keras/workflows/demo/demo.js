// The sheet to draw on, and files that are chosen, taken, pasted or dropped.
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
  const say = (text) => {
    document.getElementById("problem").textContent = text;
  };
  window.listenForFiles = (address, limit) => {
    const frame = (dropping) => document.body.classList.toggle("dropping", dropping);
    const sendFiles = async (files) => {
      const [file] = files;
      say("");
      if (!file) return;
      if (files.length > 1) return say("One file at a time, please.");
      // The server refuses it too; this spares sending it.
      if (file.size > limit) return say(`A file may have ${limit / 1e6} MB at most.`);
      clear();
      try {
        const answer = await fetch(address, { method: "POST", body: file });
        if (!answer.ok) say(await answer.text());
      } catch {
        say("The file did not reach the server. Is ood-demo still running?");
      }
    };
    for (const [button, input] of [["choose", "file"], ["photograph", "camera"]]) {
      const chooser = document.getElementById(input);
      document.getElementById(button).onclick = () => chooser.click();
      chooser.onchange = () => {
        sendFiles([...chooser.files]);
        chooser.value = "";
      };
    }
    document.getElementById("clear").onclick = () => {
      say("");
      clear();
      send();
    };
    document.addEventListener("paste", (event) => {
      // What is pasted elsewhere is text.
      if (event.clipboardData.files.length) sendFiles([...event.clipboardData.files]);
    });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      frame(true);
    });
    document.addEventListener("dragleave", () => frame(false));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      frame(false);
      sendFiles([...event.dataTransfer.files]);
    });
  };
})();

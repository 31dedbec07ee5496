// Draw everything, and again when the page becomes wider or narrower.
const drawAll = () => drawn.forEach(drawPart);
drawAll();
if ('ResizeObserver' in window) {
  const observer = new ResizeObserver(() => requestAnimationFrame(drawAll));
  observer.observe(document.querySelector('main'));
}
for (const figure of document.querySelectorAll('figure[data-frame]')) {
  figure.addEventListener('click', () => select(Number(figure.dataset.frame)));
}
document.documentElement.dataset.problems = JSON.stringify(problems);
document.documentElement.dataset.ready = 'true';
